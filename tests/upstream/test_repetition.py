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


@pytest.mark.parametrize(("method", "is_streamed", "expected"), CARRIED)
def test_what_begins_or_ends_a_job_has_a_new_connection(method: str, is_streamed: bool, expected: bool) -> None:
    """A route may say that a GET deletes: repeated, it was answered with a 404 for what it had done."""
    assert not may_go_on_used(method, is_streamed=is_streamed, changes_job=True)
    assert may_go_on_used(method, is_streamed=is_streamed, changes_job=False) is expected


# Whether an earlier request went on the connection, and whether a byte of an answer came.
REPEATED = {(True, False): True, (True, True): False, (False, False): False, (False, True): False}


@pytest.mark.parametrize(("was_used", "has_arrived"), list(REPEATED))
@pytest.mark.parametrize("may_reuse", [True, False])
def test_only_what_a_used_connection_lost_without_an_answer_goes_again(
    may_reuse: bool, was_used: bool, has_arrived: bool
) -> None:
    again = may_go_again(may_reuse=may_reuse, was_used=was_used, has_arrived=has_arrived)
    assert again is (may_reuse and REPEATED[was_used, has_arrived])
