import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.listener.backlog import MAX_SKIPPED, Backlog
from tests.support.held import texts_within


def test_what_came_at_once_is_given_out_as_it_is() -> None:
    backlog, data = Backlog(), b"abc"
    backlog.add(data)
    assert backlog.take(3) is data
    assert len(backlog) == 0


def test_what_comes_is_put_behind_what_waits_without_a_copy_of_that() -> None:
    backlog, first = Backlog(), b"abc" * 1000
    backlog.add(first)
    for _ in range(9):
        backlog.add(b"de")
    assert len(backlog) == 3018
    assert backlog.take(3000) is first
    assert backlog.take(99) == b"de" * 9


@pytest.mark.parametrize("is_skipped", [False, True])
def test_what_was_taken_is_not_kept(is_skipped: bool) -> None:
    """A connection that was idle kept all of the last read, 250 KB."""
    backlog = Backlog()
    backlog.add(b"\r\n" * 3000)
    backlog.take(2000)
    assert (backlog.skip_empty_lines() if is_skipped else len(backlog.take(4000))) == 4000
    assert not any(texts_within(backlog))
    backlog.add(b"abc")
    assert (backlog.take(1), backlog.take(9)) == (b"a", b"bc")


def test_what_is_dropped_is_gone() -> None:
    backlog = Backlog()
    backlog.add(b"abcdef")
    backlog.take(2)
    backlog.add(b"ghi")
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


@given(st.text("\r\nx", max_size=8), st.text("\r\nx", max_size=12), st.integers(0, 3), st.integers(0, 15))
def test_a_mark_is_found_where_it_first_ends(before: str, text: str, taken: int, cut: int) -> None:
    backlog, mark = Backlog(), b"\r\n\r\n"
    came = b"?" * taken + text.encode()
    backlog.add(came[:cut])
    backlog.add(came[cut:])
    backlog.take(taken)
    whole = (before + text).encode()
    ends = (end for end in range(len(before) + 1, len(whole) + 1) if whole[:end].endswith(mark))
    expected = next(ends, len(whole)) - len(before)
    assert backlog.through(mark, before.encode()) == expected


@pytest.mark.parametrize(
    ("data", "skipped"),
    [
        (b"", 0),
        (b"GET", 0),
        (b"\r\nGET", 2),
        (b"\r\n\r\n", 4),
        (b"\r\n\rG", 2),
        (b"\n\r\n", 0),
        (b"\r\n" * 4096, 8192),
        (b"\r\n" * 9000, MAX_SKIPPED),
    ],
)
def test_empty_lines_are_skipped(data: bytes, skipped: int) -> None:
    backlog = Backlog()
    backlog.add(b"x" + data)
    assert backlog.take(1) == b"x"
    assert backlog.skip_empty_lines() == skipped
    assert backlog.take(len(data)) == data[skipped:]
