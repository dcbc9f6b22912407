from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.windows import day_of, month_of, periods_at
from tests.support.pure import PROPERTY

moments = st.floats(0, 253_402_300_799 - 80 * 86_400, allow_nan=False)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@PROPERTY
@given(moments)
def test_a_moment_is_in_its_windows_and_they_follow_each_other(now: float) -> None:
    for of in (day_of, month_of):
        window = of(now)
        assert window.start <= now < window.end
        assert of(window.start) == of(window.end - 1) == window
        assert of(window.end).start == window.end
        assert of(window.end).period > window.period
        assert window.seconds == window.end - window.start
    assert day_of(now).seconds == 86_400
    assert day_of(now).period // 100 == month_of(now).period
    assert periods_at(now) == (day_of(now).period, month_of(now).period)


@pytest.mark.parametrize(
    ("text", "days", "period"),
    [
        ("2026-11-23T12:00:00", 30, 202611),
        ("2026-12-31T23:59:59", 31, 202612),
        ("2028-02-29T00:00:00", 29, 202802),
        ("2100-02-28T00:00:00", 28, 210002),
    ],
)
def test_months_are_those_of_the_calendar(text: str, days: int, period: int) -> None:
    window = month_of(at(text))
    assert (window.period, window.seconds) == (period, days * 86_400)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
def test_the_zone_of_the_process_is_nothing_to_them(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415 -- for the one thing that sets it

    now = at("2026-03-29T00:30:00")
    expected = day_of(now), month_of(now)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert (day_of(now), month_of(now)) == expected
    finally:
        monkeypatch.undo()
        time.tzset()
    assert expected[0].end - now == timedelta(hours=23, minutes=30).total_seconds()
