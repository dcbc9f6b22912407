"""The log: exactly one event for each request, with its fields and nothing that a client sent."""

import asyncio
import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.config.ledger_url import url_of
from gateway.ledger.refusals import RefusalRow, latest
from gateway.limits.buckets import Rate
from gateway.observe.log import console_line, json_line
from tests.support.backend import Backend, answering, closing_after
from tests.support.forms import Document, form, image
from tests.support.gateway import KEY, PLAIN, RESULT, SUBMIT, Running, Start, chunks, request, submit
from tests.support.ledgers import open_engine
from tests.support.waiting import eventually

FIELDS = {
    "timestamp", "level", "event", "request_id", "trace_id", "client", "peer", "method", "route", "key", "status",
    "reason", "source",
    "detail", "duration",
}  # fmt: skip
CARRIED = FIELDS | {"received", "sent", "upstream_connection", "retried", "upstream_duration"}


async def test_what_is_refused_or_fails_can_be_asked_about_by_its_id(start: Start, backend: Backend) -> None:
    backend.script = closing_after(b"")
    gateway = await start()
    failed = json.loads((await gateway.ask(request("GET", RESULT))).body)["request_id"]
    refused = json.loads((await gateway.ask(request("GET", "/nowhere"))).body)["request_id"]
    engine = open_engine(url_of(gateway.gateway.live.state.settings))
    try:
        rows: dict[str, RefusalRow] = {}
        while len(rows) < 2:  # written within a second
            rows = {row.request_id: row for row in await engine.read(lambda c: latest(c, 10))}
            await asyncio.sleep(0.05)
    finally:
        await engine.close()
    assert (rows[failed].status, rows[failed].key_id) == (502, "ci")
    assert (rows[refused].reason, rows[refused].client) == ("route_not_found", "127.0.0.1")


async def test_a_forwarded_request_is_told_whole(gateway: Running) -> None:
    sent = form()
    response = await gateway.ask(submit(sent), b"POST")
    (event,) = await gateway.finished(1)
    assert set(event) == CARRIED
    told = {
        name: event[name]
        for name in (
            "level",
            "event",
            "client",
            "peer",
            "method",
            "route",
            "key",
            "status",
            "reason",
            "source",
            "detail",
            "received",
            "sent",
            "upstream_connection",
            "retried",
        )
    }
    assert told == {
        "level": "info", "event": "request", "client": "127.0.0.1", "peer": "127.0.0.1", "method": "POST",
        "route": "submit",
        "key": "ci", "status": 200, "reason": "forwarded", "source": "upstream", "detail": None,
        "received": len(sent),
        "sent": len(response.body),
        "upstream_connection": "new", "retried": False,
    }  # fmt: skip
    assert event["request_id"].encode() == response.value(b"x-request-id")
    assert 0 < event["upstream_duration"] <= event["duration"] < 10
    assert abs(event["timestamp"] - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("sent", "status", "method", "route"),
    [
        (request(key=None), 401, "GET", "result"),
        (request("GET", "/nowhere"), 404, "GET", "unmatched"),
        (request("GET", "/a/../b"), 400, "GET", "unmatched"),
        (request("BREW", RESULT), 400, "OTHER", "unmatched"),
        (b"canary\r\n\r\n", 400, "OTHER", "unmatched"),
        (request("PROPFIND", RESULT), 405, "OTHER", "unmatched"),
    ],
)
async def test_a_refused_request_is_told_by_what_is_known_of_it(
    sent: bytes, status: int, method: str, route: str, gateway: Running
) -> None:
    assert (await gateway.ask(sent)).status == status
    (event,) = await gateway.finished(1)
    assert FIELDS <= set(event) <= CARRIED
    assert (event["status"], event["method"], event["route"], event["level"]) == (status, method, route, "info")
    assert event["source"] == "client"
    assert event["detail"]


async def test_many_requests_make_as_many_events_with_ids_of_their_own(gateway: Running) -> None:
    async def poll() -> None:
        client = await gateway.connect()
        for _ in range(10):
            await client.ask(request())
            await client.ask(request("GET", "/api/v1/usage"))  # refused; who has a key is no stranger to be summed up

    await asyncio.gather(*(poll() for _ in range(5)))
    events = await gateway.finished(100)
    assert len({event["request_id"] for event in events}) == 100


async def test_a_connection_without_a_request_is_no_event(gateway: Running) -> None:
    client = await gateway.connect()
    await client.close()
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    await gateway.finished(0)


C = "canary-7f3a"


async def test_nothing_that_a_client_or_an_upstream_sent_is_ever_told(
    start: Start, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gateway.observe.refusal_sampling.OF_ONE", Rate(per_second=1000.0, burst=1000.0)
    )  # an event each
    gateway = await start(profiles={"default": {"body_limit": "1MB"}})
    multipart = (
        f'--{C}\r\nContent-Disposition: form-data; name="file"; filename="{C}.pdf"\r\n\r\n{C}\r\n--{C}--\r\n'.encode()
    )
    secrets = [
        f"X-Secret: {C}",
        f"Cookie: {C}",
        f"User-Agent: {C}",
        f"Referer: {C}",
        f"X-Request-Id: {C}",
        f"X-Forwarded-For: {C}",
        f"tracestate: {C}={C}",
    ]
    told: list[bytes] = []
    for sent in (
        request("GET", f"{RESULT}{C}?{C}={C}", *secrets),
        request(
            "POST", f"{SUBMIT}?{C}", f"Content-Type: multipart/form-data; boundary={C}", *secrets, body=multipart
        ),
        request("GET", RESULT, *secrets, key=C),
        request("GET", RESULT, f"Authorization: Bearer {C}", key=None),
        request("GET", RESULT, f"Authorization: {C}", key=None),
        request("GET", RESULT, f"Authorization: Bearer {C}"),
        request("GET", f"/{C}/{C}"),
        request("DELETE", f"{RESULT}{C}"),
        request("GET", f"/{C}/../{C}"),
        request("GET", f"/{C}#{C}"),
        request("GET", RESULT, f"Host: {C}@{C}"),
        request("GET", RESULT, f"Expect: {C}"),
        request("GET", RESULT, f"Connection: {C}@"),
        request("GET", RESULT, f"Upgrade: {C}"),
        request("GET", RESULT, f"X-A : {C}"),
        request("GET", RESULT, f"X-A: {C}\x00"),
        request("GET", RESULT, f"X_API_KEY: {C}"),
        request("GET", RESULT, f"Content-Length: {C}"),
        request("GET", RESULT, f"Transfer-Encoding: {C}"),
        request(C.upper(), RESULT),
        request("GET", RESULT, *(f"X-{i}: {C}" for i in range(200))),
        request("GET", RESULT, f"X-A: {C * 1000}"),
        request("POST", PLAIN, "Transfer-Encoding: chunked") + C.encode() + b"\r\n",
        request("POST", PLAIN, "Transfer-Encoding: chunked") + chunks(C.encode() * 200_000),
        request("POST", SUBMIT, f"Content-Type: {C}", body=C.encode()),
        submit(C.encode()),
        submit(form(file_url=C)),
        submit(form(page_range=C)),
        submit(form(Document(C.encode(), f"{C}.pdf", f"{C}/{C}"), **{C: C}, mode=C, max_pages=C)),
        submit(form(image(C.encode() * 200_000))),
        f"{C}\r\n\r\n".encode(),
        f"GET {C} {C}\r\n\r\n".encode(),
    ):
        response = await gateway.ask(sent)
        if response.reason is not None:
            told.append(repr(response).encode())
    for data in (
        C.encode(),
        f"HTTP/1.1 200 {C}\r\n{C}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nContent-Length: {C}\r\n\r\n".encode(),
    ):
        await backend.hang_up()
        await backend.listen()
        backend.script = closing_after(data)
        response = await gateway.ask(request())
        assert response.reason == "upstream_broke_off"
        told.append(repr(response).encode())
    backend.script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    metrics = (await gateway.admin("/metrics"))[1].encode()
    lines = b"".join(json_line(dict(event)) + console_line(dict(event)) for event in gateway.events)
    assert len(told) > 20
    for what in (metrics, lines, *told):
        assert C.encode() not in what.lower()
        assert b"7f3a" not in what.lower()
        assert KEY.encode() not in what
    assert len(await gateway.finished(35)) == 35


async def test_events_are_lines_of_json_on_the_descriptor(start: Start) -> None:
    reading, writing = os.pipe()
    try:
        gateway = await start(log_to=writing)
        await gateway.ask(request())
        await gateway.finished(1)
        os.set_blocking(reading, False)
        read = b""
        async with asyncio.timeout(5):
            while b'"request"' not in read or not read.endswith(b"\n"):
                await asyncio.sleep(0.01)
                with suppress(BlockingIOError):
                    read += os.read(reading, 65536)
        events = [json.loads(line) for line in read.splitlines()]
        assert [event["event"] for event in events if event["event"] in {"listening", "request"}] == [
            "listening",
            "request",
        ]
        for event in events:
            assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
        assert gateway.metric("gateway_log_dropped_total") == 0
        os.set_blocking(reading, True)
    finally:
        await asyncio.to_thread(lambda: None)
        # The gateway's writer may still want it: closed by the fixture's end at the latest.
        _later_closed.extend((reading, writing))


_later_closed: list[int] = []


@pytest.fixture(autouse=True)
def closed_descriptors(tmp_path: Path) -> object:
    """Closes pipes after the gateways that write to them have ended."""
    del tmp_path
    yield
    while _later_closed:
        os.close(_later_closed.pop())


async def test_a_reader_that_is_gone_costs_events_not_requests(start: Start) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    _later_closed.append(writing)
    gateway = await start(log_to=writing)
    client = await gateway.connect()
    for _ in range(20):
        assert (await client.ask(request())).status == 200
    await eventually(lambda: gateway.metric("gateway_log_dropped_total") > 0)
    assert (await client.ask(request())).status == 200
    assert gateway.counted(status=200) == 21


async def test_a_reader_that_does_not_read_keeps_no_request_waiting(start: Start) -> None:
    reading, writing = os.pipe()
    _later_closed.extend((reading, writing))
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    gateway = await start(log_to=writing)
    client = await gateway.connect()
    for _ in range(20):
        assert (await client.ask(request())).status == 200
    read = 0
    os.set_blocking(reading, False)
    async with asyncio.timeout(5):
        while read < 70_000:
            try:
                read += len(os.read(reading, 65536))
            except BlockingIOError:
                await asyncio.sleep(0.01)
    assert gateway.metric("gateway_log_dropped_total") == 0


@pytest.mark.parametrize(("level", "told"), [("debug", 3), ("info", 3), ("warning", 1), ("error", 0)])
async def test_the_level_picks_the_events(level: str, told: int, start: Start, backend: Backend) -> None:
    gateway = await start(log={"level": level})
    await gateway.ask(request())
    await gateway.ask(request(key=None))
    await backend.hang_up()
    await gateway.ask(request())
    await eventually(lambda: gateway.counted() == 3)
    assert len(gateway.requests) == told
