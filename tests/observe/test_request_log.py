from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.model.reasons import VERDICTS, Bearer, Reason, Source, Why
from gateway.model.request import Delivery, Trace
from gateway.observe.request_log import level_of, request_event
from tests.support.pure import REFUSING_REASONS, make_exchange

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
TRACE = Trace(b"a", "4bf92f3577b34da6a3ce929d0e0e4736", b"secret-parent", b"secret=state")


def event_of(**changes: Any) -> dict[str, Any]:
    return request_event(make_exchange(**changes), "info", AT)


def test_a_request_that_never_went_upstream() -> None:
    assert event_of() == {
        "timestamp": AT,
        "level": "info",
        "event": "request",
        "request_id": "00000000000000000000000000000001",
        "trace_id": None,
        "client": "192.0.2.8",
        "peer": "192.0.2.7",
        "method": "OTHER",
        "route": "unmatched",
        "key": None,
        "status": 0,
        "reason": "forwarded",
        "source": "upstream",
        "detail": None,
        "duration": 0.5,
    }


def test_a_request_that_was_forwarded() -> None:
    delivery = Delivery("reused", retried=True, started=100.1, ended=100.3000004, status=200, received=10, sent=20)
    event = event_of(method="POST", route="submit", key_id="ci", status=200, trace=TRACE, delivery=delivery)
    assert event["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (event["method"], event["route"], event["key"], event["status"]) == ("POST", "submit", "ci", 200)
    assert {name: event[name] for name in list(event)[15:]} == {
        "received": 10,
        "sent": 20,
        "upstream_connection": "reused",
        "retried": True,
        "upstream_duration": 0.2,
    }


def test_the_bearer_of_a_refused_token_is_named_with_what_it_was_for() -> None:
    event = event_of(why=Why.AUDIENCE, bearer=Bearer("jwt:https://id.example#alice", ""))
    assert (event["key"], event["audience"]) == ("jwt:https://id.example#alice", "")
    event = event_of(why=Why.EXPIRED, bearer=Bearer("jwt:https://id.example#alice"))
    assert event["key"] == "jwt:https://id.example#alice"
    assert "audience" not in event


def test_an_upstream_that_never_came_to_an_end_is_measured_to_the_requests() -> None:
    assert event_of(delivery=Delivery(started=100.1))["upstream_duration"] == 0.4
    assert "upstream_duration" not in event_of(delivery=Delivery())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_known_methods_are_shown(method: str) -> None:
    assert event_of(method=method)["method"] == method


@pytest.mark.parametrize("method", ["get", "PROPFIND", "X" * 1000, "-", "", "CANARY"])
def test_other_methods_are_not(method: str) -> None:
    assert event_of(method=method)["method"] == "OTHER"


def test_nothing_of_the_trace_but_its_id_is_shown() -> None:
    assert "secret" not in str(event_of(trace=TRACE))


@pytest.mark.parametrize("reason", REFUSING_REASONS)
def test_the_level_says_whether_an_operator_should_look(reason: Reason) -> None:
    source = VERDICTS[reason].source
    expected = {Source.CLIENT: "info", Source.UPSTREAM: "warning", Source.GATEWAY: "error"}[source]
    assert level_of(make_exchange(reason=reason, source=source)) == expected


def test_an_answer_that_was_forwarded_is_no_warning() -> None:
    assert level_of(make_exchange(status=500)) == "info"


def test_an_answer_of_our_own_is_no_fault() -> None:
    assert level_of(make_exchange(status=200, reason=Reason.ANSWERED, source=Source.GATEWAY)) == "info"
