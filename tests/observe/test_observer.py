import os
from datetime import UTC, datetime

import pytest

from gateway.model.reasons import Reason, Source
from gateway.observe.log import LogStream, configure, json_line
from gateway.observe.metrics import RequestMetrics
from gateway.observe.observer import Observer, ObserverHooks
from tests.support.pure import make_exchange

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def lines_at(level: str, **changes: object) -> tuple[RequestMetrics, list[bytes]]:
    reading, writing = os.pipe()
    metrics, stream = RequestMetrics(), LogStream(writing, json_line)
    observer = Observer(metrics, stream, level, lambda: NOW, ObserverHooks(lambda _, __: None))
    observer.count_started()
    assert metrics.in_flight == 1
    observer.record(make_exchange(**changes))
    stream.start()
    stream.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return metrics, pipe.read().splitlines()


def test_each_request_is_counted_and_logged_once() -> None:
    metrics, lines = lines_at("info", route="result", method="GET", status=200)
    assert metrics.in_flight == 0
    assert metrics.routes["result"].outcomes == {("GET", "200", Reason.FORWARDED): 1}
    assert len(lines) == 1
    assert lines[0].startswith(b'{"timestamp":"2026-11-23T12:00:00Z","level":"info","event":"request"')


@pytest.mark.parametrize(("level", "written"), [("debug", 1), ("info", 1), ("warning", 0), ("error", 0)])
def test_a_level_keeps_requests_out_of_the_log_but_not_out_of_the_metrics(level: str, written: int) -> None:
    metrics, lines = lines_at(level, status=200)
    assert len(lines) == written
    assert metrics.routes["unmatched"].duration.counts != [0] * len(metrics.routes["unmatched"].duration.counts)


def test_who_called_is_told_of_every_request() -> None:
    seen: list[str | None] = []
    stream = LogStream(-1, json_line)
    observer = Observer(
        RequestMetrics(),
        stream,
        "info",
        lambda: NOW,
        ObserverHooks(lambda _, __: None, lambda found: seen.append(found.key_id)),
    )
    for key_id in ("ci", None):
        observer.record(make_exchange(key_id=key_id))
    assert seen == ["ci", None]


def test_the_upstreams_faults_are_warnings() -> None:
    _, lines = lines_at("warning", reason=Reason.UPSTREAM_TIMEOUT, source=Source.UPSTREAM, status=504)
    assert b'"level":"warning"' in lines[0]


def test_a_flood_of_a_stranger_is_some_events_and_a_sum_and_all_of_it_is_counted() -> None:
    reading, writing = os.pipe()
    metrics, stream = RequestMetrics(), LogStream(writing, json_line)
    refused: list[Reason] = []
    configure(stream, "info", lambda: NOW)
    observer = Observer(metrics, stream, "info", lambda: NOW, ObserverHooks(lambda _, reason: refused.append(reason)))
    flood = make_exchange(reason=Reason.UNAUTHENTICATED, source=Source.CLIENT, status=401, key_id=None)
    for _ in range(500):
        observer.record(flood)
    for _ in range(30):  # whoever is known has all of them
        observer.record(make_exchange(reason=Reason.FORBIDDEN, source=Source.CLIENT, status=403, key_id="ci"))
    observer.close()
    stream.start()
    stream.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert len(lines) == 20 + 30 + 1
    assert b'"event":"refusals summed up"' in lines[-1]
    assert b'"refusals":480,"reasons":{"unauthenticated":480}' in lines[-1]
    assert len(refused) == 530
    assert sum(sum(tally.outcomes.values()) for tally in metrics.routes.values()) == 530
