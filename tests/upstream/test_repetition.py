"""When a request may go to an upstream a second time: the whole table."""

import pytest

from gateway.upstream.repetition import may_go_again, may_go_on_used

# Method, and whether its body passes through: whether a used connection may carry it.
CARRIED = [
    ("GET", False, True),
    ("HEAD", False, True),
    ("OPTIONS", False, True),
    ("PUT", False, False),
    ("DELETE", False, False),
    ("GET", True, False),
    ("PUT", True, False),
    ("DELETE", True, False),
    ("POST", False, False),
    ("POST", True, False),
    ("PATCH", False, False),
    ("PATCH", True, False),
    ("MERGE", False, False),
    ("get", False, False),
]


@pytest.mark.parametrize(("method", "is_streamed", "expected"), CARRIED)
def test_a_used_connection_carries_what_changes_nothing(method: str, is_streamed: bool, expected: bool) -> None:
    assert may_go_on_used(method, is_streamed=is_streamed) is expected


# Whether an earlier request went on the connection, and whether a byte of an answer came.
REPEATED = {(True, False): True, (True, True): False, (False, False): False, (False, True): False}


@pytest.mark.parametrize(("was_used", "has_arrived"), list(REPEATED))
@pytest.mark.parametrize(("method", "is_streamed", "is_carried"), CARRIED)
def test_only_what_a_used_connection_lost_without_an_answer_goes_again(
    method: str, is_streamed: bool, is_carried: bool, was_used: bool, has_arrived: bool
) -> None:
    again = may_go_again(method, is_streamed=is_streamed, was_used=was_used, has_arrived=has_arrived)
    assert again is (is_carried and REPEATED[was_used, has_arrived])
