import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.outbound.backoff import next_at, pause_after, read_retry_after
from gateway.webhooks.outbound.circuit_breaker import Breaker
from gateway.webhooks.outbound.sender import body_of
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


def test_the_body_is_compact_and_holds_no_result() -> None:
    body = body_of("r1", "https://g.example/api/v1/marker/r1", "complete")
    assert body == (
        b'{"request_id":"r1","request_check_url":"https://g.example/api/v1/marker/r1","status":"complete"}'
    )
    assert json.loads(body_of('"\n', None, "failed")) == {
        "request_id": '"\n', "request_check_url": None, "status": "failed",
    }  # fmt: skip


A, B = ("a:443", "key:ci"), ("a:443", "key:other")


def fail(breaker: Breaker, now: float, times: int = 5, destination: tuple[str, str] = A) -> float | None:
    return [breaker.record_failure(destination, now) for _ in range(times)][-1]


def test_a_destination_that_keeps_failing_is_paused_then_probed_by_one() -> None:
    breaker = Breaker()
    assert fail(breaker, 0.0, 4) is None
    assert breaker.rooms(0.0) == {}
    assert breaker.record_failure(A, 0.0) == 30
    assert breaker.rooms(29.9) == {A: 0}
    assert breaker.rooms(30.0) == {A: 1}
    assert breaker.record_failure(A, 29.0) is None  # it had begun before the pause
    pauses = []
    now = 30.0
    for _ in range(6):
        pause = breaker.record_failure(A, now)
        assert pause is not None
        pauses.append(pause)
        now += pause
    assert pauses == [60, 120, 240, 300, 300, 300]


def test_one_answer_opens_it_again() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    assert breaker.record_success(A) is True
    assert breaker.rooms(100.0) == {}
    assert fail(breaker, 100.0, 4) is None
    assert breaker.record_success(A) is False
    assert breaker.record_success(B) is False


def test_it_remembers_the_latest_thousand() -> None:
    breaker = Breaker()
    for number in range(1001):
        fail(breaker, 0.0, destination=(f"h{number}:443", f"key:{number}"))
    assert len(breaker.rooms(0.0)) == 1000
    assert ("h0:443", "key:0") not in breaker.rooms(0.0)


def test_it_remembers_the_latest_hundred_of_an_owner() -> None:
    """One host has 65,535 ports: a thousand of one key held up the webhooks of all."""
    breaker = Breaker()
    fail(breaker, 0.0, destination=B)
    for number in range(101):
        fail(breaker, 0.0, destination=(f"a:{number}", "key:ci"))
    rooms = breaker.rooms(0.0)
    assert (len(rooms), B in rooms, ("a:0", "key:ci") in rooms) == (101, True, False)


def test_what_nothing_was_sent_to_for_long_after_its_pause_is_forgotten() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    fail(breaker, 0.0, 4, destination=B)
    breaker.forget_old(4529.9)
    assert breaker.rooms(4529.9) == {A: 1}
    breaker.forget_old(4530.0)
    assert breaker.rooms(4530.0) == {}
    assert fail(breaker, 4531.0, 4) is None  # counted anew
    assert fail(breaker, 4531.0, 1, destination=B) == 30
