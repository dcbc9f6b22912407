import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.buckets import Rate, per_minute, take, wait_for
from tests.support.pure import PROPERTY

moments = st.floats(0, 1e7)
counts = st.integers(1, 10_000)


def spend(tat: float, now: float, rate: Rate) -> tuple[float, bool]:
    """Takes one unit when it is there."""
    if wait_for(tat, now, 1, rate):
        return tat, False
    return take(tat, now, 1, rate), True


@pytest.mark.parametrize(
    ("tat", "now", "cost", "wait"),
    [
        (0.0, 100.0, 60, 0.0),  # an old bucket is full
        (0.0, 100.0, 61, 1.0),
        (100.0, 100.0, 60, 0.0),
        (130.0, 100.0, 30, 0.0),
        (130.0, 100.0, 31, 1.0),
        (160.0, 100.0, 1, 1.0),
        (160.0, 100.5, 1, 0.5),
        (160.0, 101.0, 1, 0.0),
        (160.0, 100.0, 0, 0.0),
    ],
)
def test_tells_how_long_until_the_units_are_there(tat: float, now: float, cost: float, wait: float) -> None:
    assert wait_for(tat, now, cost, per_minute(60)) == pytest.approx(wait)


def test_a_rate_of_n_a_minute_is_a_burst_of_n() -> None:
    assert per_minute(90) == Rate(1.5, 90)


@PROPERTY
@given(moments, st.integers(1, 200))
def test_exactly_the_burst_is_there_at_once(now: float, count: int) -> None:
    rate, tat, taken = per_minute(count), 0.0, 0
    for _ in range(count + 3):
        tat, is_taken = spend(tat, now, rate)
        taken += is_taken
    assert taken == count


@PROPERTY
@given(moments, counts, st.integers(0, 20_000))
def test_waiting_as_long_as_told_is_enough(now: float, count: int, spent: int) -> None:
    rate = per_minute(count)
    tat = take(0.0, now, spent, rate)
    wait = wait_for(tat, now, 1, rate)
    assert wait_for(tat, now + wait + 1e-6, 1, rate) == 0.0
    assert (wait > 0) == (spent >= count)


@PROPERTY
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=60), st.integers(1, 50))
def test_over_any_time_no_more_is_spent_than_burst_and_refill(steps: list[tuple[float, int]], count: int) -> None:
    rate, tat, now, spent = per_minute(count), 0.0, 1000.0, 0
    for pause, cost in steps:
        now += pause
        if not wait_for(tat, now, cost, rate):
            tat = take(tat, now, cost, rate)
            spent += cost
    assert spent <= count + (now - 1000.0) * count / 60 + 1e-6 * (len(steps) + 1) * count
