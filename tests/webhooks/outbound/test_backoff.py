"""When a webhook is sent again, and when it is given up."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.outbound.backoff import next_at, pause_after, read_retry_after
from tests.support.pure import PROPERTY

NOW = 1_795_435_200.0


def test_pauses_double_up_to_an_hour() -> None:
    pauses = [pause_after(attempts, 0.5) for attempts in (1, 2, 3, 4, 10, 11, 10_000)]
    assert pauses == [5, 10, 20, 40, 2560, 3600, 3600]


@given(st.integers(1, 10**9), st.floats(0, 1), st.none() | st.floats(0, 1e300))
@PROPERTY
def test_a_pause_is_bounded_whatever_the_receiver_asks_for(attempts: int, dice: float, asked: float | None) -> None:
    assert 4 <= pause_after(attempts, dice, asked) <= 4321


def test_a_receiver_may_ask_for_a_longer_pause_and_for_no_shorter_one() -> None:
    assert pause_after(1, 0.5, 100.0) == 100
    assert pause_after(5, 0.5, 0.0) == 80
    assert pause_after(1, 0.5, 10**9) == 3600


def test_it_is_given_up_when_the_next_attempt_would_be_too_late() -> None:
    assert next_at(NOW, NOW - 90, 100.0, 10.0) == NOW + 10
    assert next_at(NOW, NOW - 90, 100.0, 10.1) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", None),
        ("7.5", None),
        ("\u0667", None),
        ("soon", None),
        ("9" * 65, None),
        ("Mon, 99 Nov 2026 12:00:00 GMT", None),
        (format_datetime(datetime.fromtimestamp(NOW + 60, UTC), usegmt=True), 60.0),
        (format_datetime(datetime.fromtimestamp(NOW - 60, UTC), usegmt=True), 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert read_retry_after(text, NOW) == seconds
