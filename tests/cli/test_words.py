"""Sizes, spans, moments and money as people write them; exact where a program reads."""

from datetime import UTC, timedelta, timezone
from pathlib import Path

import pytest

from gateway.cli import table
from gateway.cli.table import shown
from gateway.cli.words import Shown, at, away, away_from, in_bytes, in_currency, in_seconds, size, spend
from gateway.errors import ConfigurationError
from gateway.units import size as read_size
from tests.support.pure import make_settings

NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC
IST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1 KB"), (1536, "1.5 KB"), (209_715_200, "200 MB"),
        (1024**2 - 1, "1 MB"), (int(1.2 * 1024**3), "1.2 GB"), (5000 * 1024**3, "5000 GB"),
    ],
)  # fmt: skip
def test_sizes_take_the_largest_unit_that_fits(count: int, told: str) -> None:
    assert in_bytes(count) == told
    read_size(told)  # the configuration takes it


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.02, "20 ms"), (1.5, "1.5 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (12_000, "3 h 20 min"),
        (3600, "1 h"), (3659, "1 h"), (90_000, "1 d 1 h"), (86_400 * 400, "400 d"),
    ],
)  # fmt: skip
def test_spans_take_the_two_largest_units_that_fit(seconds: float, told: str) -> None:
    assert in_seconds(seconds) == told


def test_a_moment_is_told_by_how_far_away_it_is() -> None:
    assert away_from(NOON + 10_800, NOON) == "in 3 h"
    assert away_from(NOON - 172_800, NOON) == "2 d ago"
    assert away_from(NOON + 0.4, NOON) == "now"
    assert away("2026-11-23T12:00:20Z", NOON) == Shown("2026-11-23T12:00:20Z", "in 20 s")
    assert away(None, NOON) is None


def test_moments_are_in_local_time_with_its_zone() -> None:
    moment = "2026-11-23T12:00:00Z"
    assert at(moment, zone=IST) == Shown(moment, "2026-11-23 17:30:00+05:30")
    assert at(moment, zone=UTC) == Shown(moment, "2026-11-23 12:00:00Z")
    assert at(moment, NOON - 60, UTC) == Shown(moment, "2026-11-23 12:00:00Z (in 1 min)")
    assert at("9999-12-31T23:59:59Z", zone=IST) == Shown("9999-12-31T23:59:59Z", "9999-12-31 23:59:59Z")
    assert at(None) is None


@pytest.mark.parametrize(
    ("millionths", "currency", "told"),
    [
        (12_300_000, "USD", "$12.30"), (-250_000, "USD", "-$0.25"), (1_234_567_000_000, "EUR", "€1,234,567.00"),
        (12_300_000, "CHF", "12.30 CHF"), (12_345_678, None, "12.345678"), (-1_000_000, "CHF", "-1.00 CHF"),
    ],
)  # fmt: skip
def test_money_shows_its_currency(millionths: int, currency: str | None, told: str) -> None:
    assert in_currency(millionths, currency) == told


@pytest.mark.parametrize("is_terminal", [True, False])
def test_words_are_for_a_terminal_alone(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "is_terminal", lambda: is_terminal)
    assert shown(size(2048)) == ("2 KB" if is_terminal else "2048")
    assert shown(spend(12_300_000, "USD")) == ("$12.30" if is_terminal else "12.30")
    assert shown(None) == "-"


def test_the_currency_is_a_setting(tmp_path: Path) -> None:
    assert make_settings(tmp_path).prices.currency is None
    assert make_settings(tmp_path, prices={"currency": "USD"}).prices.currency == "USD"
    with pytest.raises(ConfigurationError, match=r"prices\.currency: is a currency's code"):
        make_settings(tmp_path, prices={"currency": "usd"})
