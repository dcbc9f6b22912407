"""The last hour: points between readings, quantiles between bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.reasons import Reason
from gateway.observe.history import EVERY, MOST, Gauges, History, Reading, quantile, reading_of
from gateway.observe.metrics import BOUNDS, RequestMetrics
from tests.support.pure import make_exchange

NOON = 1_795_435_200.0


def reading(at: float, requests: int = 0, pages: int = 0, **errors: int) -> Reading:
    return Reading(at, requests, errors, (0,) * (len(BOUNDS) + 1), pages, Gauges(uploads=requests))


def test_a_point_is_what_happened_between_two_readings() -> None:
    history = History()
    history.note(reading(NOON, requests=10, pages=5, rate_limited=1))
    assert history.since(0) == []
    history.note(reading(NOON + 10, requests=40, pages=10, rate_limited=1, internal=2))
    (point,) = history.since(0)
    assert (point.at, point.requests, point.errors) == (NOON + 10, 3.0, {"internal": 0.2})
    assert (point.pages_per_minute, point.gauges.uploads, point.p50, point.p95) == (30.0, 40, None, None)
    assert history.since(NOON + 10) == []


def test_nothing_is_less_than_nothing_whatever_the_readings_say() -> None:
    history = History()
    history.note(reading(NOON, requests=10, pages=5, rate_limited=3))
    history.note(reading(NOON + 10, requests=1, pages=1, rate_limited=1))
    (point,) = history.since(0)
    assert (point.requests, point.pages_per_minute, point.errors) == (0.0, 0.0, {})


def test_it_forgets_what_is_older_than_an_hour_and_a_clock_that_was_set_back_makes_no_point() -> None:
    history = History()
    for number in range(MOST + 50):
        history.note(reading(NOON + number * EVERY))
    assert len(history.since(0)) == MOST
    history.note(reading(NOON))
    assert len(history.since(0)) == MOST
    history.note(reading(NOON + 10, requests=10))
    assert history.since(0)[-1].requests == 1.0


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [([], 0.5, None), ([0, 0], 0.5, None), ([4], 0.5, 0.0005), ([2, 2], 0.5, 0.001), ([0, 0, 10], 0.95, 0.004875)],
)
def test_a_quantile_lies_within_its_bound(counts: list[int], share: float, expected: float | None) -> None:
    found = quantile(counts + [0] * (len(BOUNDS) + 1 - len(counts)), share)
    assert found == (expected if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(0, 1000), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1))
def test_p50_is_never_more_than_p95_nor_than_the_greatest_bound(counts: list[int]) -> None:
    p50, p95 = quantile(counts, 0.5), quantile(counts, 0.95)
    if p50 is not None and p95 is not None:
        assert 0 <= p50 <= p95 <= BOUNDS[-1]
    else:
        assert sum(counts) == 0


def test_errors_have_their_reason_and_the_containers_own_their_hundred() -> None:
    metrics = RequestMetrics()
    for status, reason in [
        (200, Reason.FORWARDED), (404, Reason.FORWARDED), (503, Reason.FORWARDED), (500, Reason.FORWARDED),
        (200, Reason.ANSWERED), (307, Reason.TRAILING_SLASH), (429, Reason.RATE_LIMITED), (499, Reason.CLIENT_GONE),
    ]:  # fmt: skip
        metrics.add(make_exchange(status=status, reason=reason, ended=100.02, route=f"r{status % 2}"))
    found = reading_of(metrics.routes.values(), NOON, 7, Gauges())
    assert found.errors == {"forwarded_4xx": 1, "forwarded_5xx": 2, "rate_limited": 1, "client_gone": 1}
    assert (found.requests, found.pages, sum(found.durations)) == (8, 7, 8)
