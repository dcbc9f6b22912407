from hypothesis import given
from hypothesis import strategies as st

from gateway.listener.backlog import Backlog


def test_what_came_at_once_is_given_out_as_it_is() -> None:
    backlog, data = Backlog(), b"abc"
    backlog.add(data)
    assert backlog.take(3) is data
    assert len(backlog) == 0


def test_what_is_dropped_is_gone() -> None:
    backlog = Backlog()
    backlog.add(b"abcdef")
    backlog.take(2)
    backlog.clear()
    assert (len(backlog), backlog.take(9)) == (0, b"")


@given(st.lists(st.binary(max_size=20) | st.integers(0, 12), max_size=30))
def test_nothing_is_lost_nor_turned_round(steps: list[bytes | int]) -> None:
    backlog, came, given_out = Backlog(), b"", b""
    for step in steps:
        if isinstance(step, bytes):
            backlog.add(step)
            came += step
        else:
            taken = backlog.take(step)
            assert len(taken) == min(step, len(came) - len(given_out))
            given_out += taken
        assert len(backlog) == len(came) - len(given_out)
    assert given_out + backlog.take(len(came)) == came
