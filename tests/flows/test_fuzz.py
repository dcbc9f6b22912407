"""Mutated requests in the manner of HTTP Garden: whatever comes in, only what was authorised goes up, framed anew.

GATEWAY_FUZZ sets how many payloads are sent (each of up to three requests); GATEWAY_FUZZ_SEED where they begin.
"""

import asyncio
import os
import random
from collections import Counter

import h11

from tests.support.backend import Backend
from tests.support.client import Client
from tests.support.forms import form
from tests.support.gateway import KEY, PLAIN, RESULT, Running, Start, chunks, request, submit
from tests.support.waiting import eventually

COUNT = int(os.environ.get("GATEWAY_FUZZ", "700"))
SEED = int(os.environ.get("GATEWAY_FUZZ_SEED", "20261123"))
AT_ONCE = 50

CORPUS = [
    request(),
    request("GET", RESULT + "?a=b&c=d", "Accept: */*", "Connection: keep-alive"),
    request("GET", RESULT, f"Authorization: Bearer {KEY}", key=None),
    request("GET", "/api/v1/usage"),
    request("GET", "/health_check", key=None),
    request("GET", RESULT, key="wrong"),
    request("POST", PLAIN, body=b"hello world"),
    request("POST", PLAIN, "Content-Type: text/plain", "Expect: 100-continue", body=b"a" * 300),
    request("POST", PLAIN, "Transfer-Encoding: chunked") + chunks(b"hello", b"world"),
    request("POST", PLAIN, "Transfer-Encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n",
    request("POST", PLAIN, body=request("GET", "/api/v1/usage")),
    submit(form(page_range="0", mode="fast")),
    submit(form(max_pages="1"), chunked=True),
    request().replace(b"HTTP/1.1", b"HTTP/1.0"),
]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b" ", b"\t",
    b":", b";", b",", b'"',
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n",
    b"Content-Length:5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n",
    b"Connection: close\r\n", b"Connection: content-length\r\n", b"Connection: transfer-encoding\r\n",
    b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
    b"Host: other\r\n", b"X-API-Key: wrong\r\n", b"X-Forwarded-For: 10.0.0.1\r\n", b"X-Gateway-Key-Id: root\r\n",
    b"X_API_Key: wrong\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"GET /api/v1/usage HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT ",
    b"/../", b"%2e", b"%2f", b"#", b"?",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"0x5\r\n", b"-1\r\n", b"a" * 9000, b"X-A: b\r\n" * 120,
]  # fmt: skip


def mutated(dice: random.Random, data: bytes) -> bytes:
    """One to four changes of a request."""
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(data) + 1)
        end = min(len(data), place + dice.choice((1, 1, 2, 4, 16)))
        lines = data.split(b"\r\n")
        match dice.randrange(8):
            case 0:
                data = data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :]
            case 1:
                data = data[:place] + data[end:]
            case 2:
                data = data[:end] + data[place:end] + data[end:]
            case 3 | 4:
                data = data[:place] + dice.choice(TOKENS) + data[place:]
            case 5:
                dice.shuffle(lines)
                data = b"\r\n".join(lines)
            case 6:
                lines.insert(dice.randrange(1, len(lines) + 1), dice.choice(TOKENS).rstrip(b"\r\n"))
                data = b"\r\n".join(lines)
            case _:
                other = dice.choice(CORPUS)
                data = data[:place] + other[dice.randrange(len(other)) :]
    return data


def payload(dice: random.Random) -> bytes:
    """Up to three requests in a row, some of them mutated."""
    pieces = [dice.choice(CORPUS) for _ in range(dice.randint(1, 3))]
    which = dice.randrange(len(pieces))
    return b"".join(mutated(dice, piece) if i >= which else piece for i, piece in enumerate(pieces))


def answers(raw: bytes, sent: bytes) -> list[tuple[int, str | None, bytes | None]]:
    """All answers of a connection: status, our reason, request id. They must parse, one behind the other."""
    found = []
    while raw:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(raw)
        parser.receive_data(b"")
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                headers = {bytes(name): bytes(value) for name, value in event.headers}
                reason = headers.get(b"x-gateway-reason")
                found.append((event.status_code, reason.decode() if reason else None, headers.get(b"x-request-id")))
                if b"HEAD" in sent and headers.get(b"content-length") and reason:
                    return found  # a mutation made a HEAD: h11 would have to know
            elif isinstance(event, h11.EndOfMessage):
                break
            assert event is not h11.NEED_DATA
            assert not isinstance(event, h11.ConnectionClosed), raw
        raw = parser.trailing_data[0]
    return found


async def test_mutations_never_smuggle_hang_or_break_the_gateway(start: Start, backend: Backend) -> None:
    gateway = await start(
        listen={"head_timeout": "200ms", "idle_timeout": "150ms", "body_idle_timeout": "200ms"},
        upstream={"read_timeout": "15s"},
        network={"allow": ["127.0.0.0/8"], "login_failures_per_minute": 1_000_000},
    )
    dice = random.Random(SEED)  # noqa: S311 -- it must be repeatable
    payloads = [payload(dice) for _ in range(COUNT)]
    seen: Counter[str] = Counter()
    left = iter(payloads)

    async def work() -> None:
        for data in left:
            client = await gateway.connect()
            await feed(client, data, dice)
            raw = await client.rest(within=20)  # it must end by itself
            try:
                for status, reason, _ in answers(raw, data):
                    assert reason != "internal", data
                    assert status < 500 or status == 505, data
                    seen[reason or "forwarded"] += 1
            except h11.RemoteProtocolError as error:
                raise AssertionError(f"{error}: {data!r} was answered {raw!r}") from None
            await client.close()

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(work())
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    assert seen["forwarded"] > COUNT / 20
    assert seen["bad_request"] > COUNT / 20
    assert (await gateway.ask(request())).status == 200
    await gateway.end()  # what was summed up is told by then
    check_backend(gateway, backend)


async def feed(client: Client, data: bytes, dice: random.Random) -> None:
    """Whole, or in pieces with a turn of the loop in between."""
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 1, 3))))
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        client.send(data[begin:end])
        for _ in range(3 if cuts else 0):
            await asyncio.sleep(0)


ALLOWED = {b"GET", b"POST"}


def check_backend(gateway: Running, backend: Backend) -> None:
    """All that arrived parses, is routed, was authorised, and is in the log once."""
    logged = Counter(event["request_id"] for event in gateway.requests)
    assert set(logged.values()) == {1}
    assert {event["reason"] for event in gateway.requests}.isdisjoint(
        {"internal", "upstream_broke_off", "upstream_timeout"}
    )
    summed = [event for event in gateway.events if event["event"] == "refusals summed up"]
    assert gateway.counted() == len(gateway.requests) + sum(event["refusals"] for event in summed)
    assert not any("internal" in event["reasons"] for event in summed)
    for connection in backend.connections:
        assert connection.garbled is None, bytes(connection.received)
        for arrived in connection.requests:
            path = arrived.target.partition(b"?")[0]
            assert arrived.method in ALLOWED
            assert path == b"/health_check" or path.startswith(
                (b"/api/v1/marker", b"/api/v1/ocr", b"/api/v1/plain/")
            ), path
            assert (arrived.value(b"x-gateway-key-id") == b"ci") is (path != b"/health_check")
            assert arrived.value(b"x-forwarded-for") == b"127.0.0.1"
            assert arrived.values(b"x-api-key") == arrived.values(b"authorization") == []
            assert logged[(arrived.value(b"x-request-id") or b"").decode()] == 1
