"""unwritten.py: nothing is lost without being given back, whatever comes while some are written."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.unwritten import Unwritten


class Failed(Exception):
    """The ledger did not take them."""


@given(
    most=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4), st.integers(0, 7), st.booleans()), max_size=8),
)
def test_each_waits_or_was_written_or_was_given_back_once(most: int, steps: list[tuple[int, int, int, bool]]) -> None:
    waiting, written, dropped, count = Unwritten[int](most), list[int](), list[int](), 0

    def put(more: int) -> None:
        nonlocal count
        for _ in range(more):
            count += 1
            dropped.extend(filter(None, [waiting.put(count)]))
            assert len(waiting) <= most

    for before, at_once, meanwhile, fails in steps:
        put(before)
        with suppress(Failed), waiting.some(at_once) as some:
            assert len(some) == min(at_once, len(waiting))
            put(meanwhile)
            assert not set(some) & set(dropped)
            if fails:
                raise Failed
            written += some
    left = [waiting.take_oldest() for _ in range(len(waiting))]
    assert left == sorted(left)
    assert sorted(written + dropped + left) == list(range(1, count + 1))
