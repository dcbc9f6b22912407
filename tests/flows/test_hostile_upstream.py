"""An upstream that fails, lies or attacks: clients get a reason or a cut connection, never somebody else's bytes."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.support.backend import (
    OK,
    Backend,
    Connection,
    Script,
    answer,
    answering,
    chunked,
    closing_after,
    obliging,
    silent,
)
from tests.support.client import Client, Response, Truncated, read_strictly
from tests.support.forms import UPLOADS, Upload
from tests.support.gateway import PLAIN, RESULT, Running, Start, chunks, request, shared, submit
from tests.support.waiting import eventually

UPLOAD = request("POST", PLAIN, body=b"hello")
SUBMISSION = submit()
SENT = {"poll": request(), "upload": UPLOAD, "submit": SUBMISSION}


async def fails(gateway: Running, sent: bytes, status: int, reason: str) -> None:
    """The gateway answers for the upstream, and both the connection and the gateway serve on."""
    client = await gateway.connect()
    problem = (await client.ask(sent)).is_refusal(status, reason)
    event = gateway.requests[-1]
    assert (event["status"], event["reason"], event["source"], event["level"]) == (
        status,
        reason,
        "upstream",
        "warning",
    )
    assert event["request_id"] == problem["request_id"]
    assert gateway.counted(status=status, reason=reason) == 1


async def serves_on(gateway: Running, backend: Backend) -> None:
    """The next requests, on a new connection and on it again, get their own answers."""
    backend.script = answering(answer(b"mine"))
    client = await gateway.connect()
    for _ in range(2):
        response = await client.ask(request())
        assert (response.status, response.body) == (200, b"mine")


# No connection


async def test_an_upstream_that_refuses(gateway: Running, backend: Backend) -> None:
    await backend.hang_up()
    await fails(gateway, request(), 502, "upstream_unreachable")
    await backend.listen()
    await serves_on(gateway, backend)


@pytest.mark.parametrize("sent", [UPLOAD, SUBMISSION], ids=["upload", "submit"])
async def test_an_upstream_that_refuses_an_upload(sent: bytes, gateway: Running, backend: Backend) -> None:
    await backend.hang_up()
    await fails(gateway, sent, 502, "upstream_unreachable")


@pytest.fixture
def blackhole() -> Iterator[int]:
    """A port whose queue is full: it answers no SYN."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for plain in waiting:
            plain.setblocking(False)
            plain.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for plain in waiting:
            plain.close()


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_an_upstream_that_is_a_black_hole(sent: bytes, blackhole: int, start: Start) -> None:
    gateway = await start(upstream={"url": f"http://127.0.0.1:{blackhole}", "connect_timeout": "200ms"})
    await fails(gateway, sent, 502, "upstream_unreachable")


async def test_a_client_that_leaves_while_a_connection_is_made(blackhole: int, start: Start) -> None:
    gateway = await start(upstream={"url": f"http://127.0.0.1:{blackhole}", "connect_timeout": "5s"})
    client = await gateway.connect()
    client.send(request())
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 1)
    client.abort()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (499, "client_gone")


async def test_an_upstream_without_a_name(start: Start) -> None:
    gateway = await start(upstream={"url": "http://no-such-host.invalid:8000"})
    await fails(gateway, request(), 502, "upstream_unreachable")


async def test_an_upstream_that_is_no_tls_server(start: Start, backend: Backend) -> None:
    gateway = await start(upstream={"url": f"https://127.0.0.1:{backend.port}", "connect_timeout": "300ms"})
    await fails(gateway, request(), 502, "upstream_unreachable")


# No answer, or none that is HTTP


def resetting_after(data: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(data)
        connection.reset()

    return script


HEADS = {
    "closed": closing_after(b""),
    "reset": resetting_after(b""),
    "closed-within-head": closing_after(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "reset-within-head": resetting_after(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "closed-within-status": closing_after(b"HT"),
    "closed-after-interim": closing_after(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"),
}
GARBAGE = {
    "garbage": b"\x00\x01\x02canary garbage\r\n\r\n",
    "no-http": b"canary hello\r\n",
    "smtp": b"220 canary ESMTP\r\n",
    "version": b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status-letters": b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "status-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status-600": b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "header-nul": b"HTTP/1.1 200 OK\r\nX-A: can\x00ary\r\nContent-Length: 0\r\n\r\n",
    "header-cr": b"HTTP/1.1 200 OK\r\nX-A: can\rary\r\nContent-Length: 0\r\n\r\n",
    "header-no-colon": b"HTTP/1.1 200 OK\r\ncanary\r\nContent-Length: 0\r\n\r\n",
    "header-space": b"HTTP/1.1 200 OK\r\nX-A : canary\r\nContent-Length: 0\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX-A: b\r\n canary\r\nContent-Length: 0\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 6\n\ncanary",
    "length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-and-length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 7\r\n\r\ncanary",
    "same-length-twice": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 6\r\n\r\ncanary",
    "length-list": b"HTTP/1.1 200 OK\r\nContent-Length: 6, 6\r\n\r\ncanary",
    "length-negative": b"HTTP/1.1 200 OK\r\nContent-Length: -6\r\n\r\ncanary",
    "length-plus": b"HTTP/1.1 200 OK\r\nContent-Length: +6\r\n\r\ncanary",
    "length-hexadecimal": b"HTTP/1.1 200 OK\r\nContent-Length: 0x6\r\n\r\ncanary",
    "length-huge": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\ncanary",
    "length-empty": b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\ncanary",
    "coding-gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding-unknown": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked-twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-in-1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "interim-flood": b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + OK,
    "interim-with-length-flood": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "interim-with-body": b"HTTP/1.1 150 X\r\nContent-Length: 44\r\n\r\n"
     b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary" + OK,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\ncanary",
    "switching-bare": b"HTTP/1.1 101 Switching Protocols\r\n\r\ncanary",
    "head-of-100-kb": b"HTTP/1.1 200 OK\r\nX-A: " + b"canary" * 17_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "head-without-end": b"HTTP/1.1 200 OK\r\n" + b"X-A: canary\r\n" * 20_000,
    "201-headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: canary\r\n" * 201 + b"Content-Length: 0\r\n\r\n",
}  # fmt: skip


@shared
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
@pytest.mark.parametrize("name", HEADS)
async def test_an_upstream_that_leaves_before_its_answer(
    name: str, sent: bytes, gateway: Running, backend: Backend
) -> None:
    backend.script = HEADS[name]
    await fails(gateway, sent, 502, "upstream_broke_off")
    assert len(backend.requests) == 1
    await serves_on(gateway, backend)


@shared
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", GARBAGE)
async def test_an_upstream_that_speaks_no_usable_http(
    name: str, bytewise: bool, gateway: Running, backend: Backend
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        data = GARBAGE[name]
        for i in range(300 if bytewise else 0):
            connection.send(data[i : i + 1])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        connection.send(data[300 if bytewise else 0 :])
        await connection.end()

    backend.script = script
    await fails(gateway, request(), 502, "upstream_broke_off")
    assert "canary" not in str(gateway.events)
    assert len(backend.requests) == 1
    await serves_on(gateway, backend)


@shared
@pytest.mark.parametrize("name", ["garbage", "two-lengths", "length-and-chunked", "interim-flood", "switching"])
async def test_a_submit_answered_with_no_usable_http(name: str, gateway: Running, backend: Backend) -> None:
    backend.script = answering(GARBAGE[name])
    await fails(gateway, SUBMISSION, 502, "upstream_broke_off")
    await serves_on(gateway, backend)


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_a_silent_upstream_is_a_504(sent: bytes, start: Start, backend: Backend) -> None:
    gateway = await start(upstream={"read_timeout": "200ms"})
    backend.script = silent
    await fails(gateway, sent, 504, "upstream_timeout")
    await backend.connections[0].end()
    await serves_on(gateway, backend)


async def test_an_upstream_that_drips_its_head(start: Start, backend: Backend) -> None:
    """A byte now and then is no answer: the silence before an answer is measured to its head's end."""

    async def script(connection: Connection) -> None:
        await connection.request()
        for byte in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 1000:
            connection.send(bytes([byte]))
            await asyncio.sleep(0.02)  # the upstream's pace, not the test's
            if connection.ended:
                return

    backend.script = script
    gateway = await start(upstream={"read_timeout": "300ms"})
    await fails(gateway, request(), 504, "upstream_timeout")


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_upload_that_the_upstream_takes_no_more_of(sort: Upload, start: Start, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.head()
        connection.pause()
        await backend.facts.until(lambda: False, within=60)

    gateway = await start(upstream={"read_timeout": "300ms"})
    backend.script = script
    client = await gateway.connect()
    begin, end = sort.frame()
    size = 64 * 1_048_576
    length = f"Content-Length: {len(begin) + size + len(end)}"
    client.send(request("POST", sort.target, length, *sort.headers) + begin)

    async def send() -> None:
        piece = bytes(1_048_576)
        for _ in range(64):
            await client.send_all(piece)

    sending = asyncio.get_running_loop().create_task(send())
    try:
        (event,) = await gateway.finished(1)
        assert (event["status"], event["reason"]) == (504, "upstream_timeout")
        await client.rest()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


# Broken off midway


PARTS = {
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello",
    "between-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "last-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "long-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellohello\r\n0\r\n\r\n",
}


async def part_or_refusal(client: Client) -> Response | None:
    """The part of an answer that came before the connection was cut, or nothing when it is a 502 of ours."""
    try:
        response = await client.response()
    except Truncated as truncated:
        return truncated.part
    response.is_refusal(502, "upstream_broke_off")
    return None


@shared
@pytest.mark.parametrize("ending", [closing_after, resetting_after], ids=["close", "reset"])
@pytest.mark.parametrize("name", PARTS)
async def test_an_answer_that_breaks_off_is_never_whole(
    name: str, ending: object, gateway: Running, backend: Backend
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        # First a part that arrives by itself: what a reset overtakes is lost in the kernel.
        connection.send(PARTS[name][:60])
        await eventually(lambda: gateway.metric("gateway_sent_bytes_total") > 0, within=0.5)
        connection.send(PARTS[name][60:])
        connection.finish() if ending is closing_after else connection.reset()

    backend.script = answering(PARTS[name]) if "bad" in name or "long" in name else script
    if ending is closing_after and "bad" not in name and "long" not in name:
        backend.script = closing_after(PARTS[name])
    client = await gateway.connect()
    client.send(request())
    part = await part_or_refusal(client)
    if part is not None:
        assert part.status in {0, 200}
        assert len(part.body) <= 10
        await client.is_closed()
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["source"], event["level"]) == ("upstream_broke_off", "upstream", "warning")
    assert event["status"] in {200, 502}
    assert gateway.counted(reason="upstream_broke_off") == 1
    await serves_on(gateway, backend)


@shared
@pytest.mark.parametrize("name", PARTS)
async def test_a_submit_whose_answer_breaks_off_is_a_502(name: str, gateway: Running, backend: Backend) -> None:
    backend.script = closing_after(PARTS[name])
    await fails(gateway, SUBMISSION, 502, "upstream_broke_off")
    await serves_on(gateway, backend)


async def test_silence_within_an_answer_cuts_it_off(start: Start, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(PARTS["counted"])
        await connection.end()

    gateway = await start(upstream={"read_timeout": "200ms"})
    backend.script = script
    client = await gateway.connect()
    client.send(request())
    with pytest.raises(Truncated) as truncated:
        await client.response()
    assert truncated.value.part.body == b"hello"
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["status"]) == ("upstream_timeout", 200)


async def test_an_answer_broken_off_by_reset_is_not_ended_politely_for_a_1_0_client(
    gateway: Running, backend: Backend
) -> None:
    """Its end is the connection's end, so TLS must say that this is not one (RFC 9112 9.8)."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await eventually(lambda: gateway.metric("gateway_sent_bytes_total") > 0)
        connection.reset()

    backend.script = script
    sent = request().replace(b"HTTP/1.1", b"HTTP/1.0")
    read, whole = await asyncio.to_thread(read_strictly, gateway.port, gateway.tls, sent)
    assert read.endswith(b"hello")
    assert not whole
    backend.script = answering(chunked(b"hello"))
    read, whole = await asyncio.to_thread(read_strictly, gateway.port, gateway.tls, sent)
    assert read.endswith(b"\r\n\r\nhello")
    assert whole


async def test_a_close_delimited_answer_cut_by_a_reset_is_not_whole(gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await eventually(lambda: gateway.metric("gateway_sent_bytes_total") > 0)
        connection.reset()

    backend.script = script
    client = await gateway.connect()
    client.send(request())
    with pytest.raises(Truncated):
        await client.response()
    (event,) = await gateway.finished(1)
    assert event["reason"] == "upstream_broke_off"


# More than was asked for


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@shared
@pytest.mark.parametrize(
    "first",
    [OK + POISON, OK + b"poison", chunked(b"hello") + POISON, b"HTTP/1.1 204 No Content\r\n\r\n" + POISON,
     b"HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n" + POISON, OK + b"\r\n\r\n" + POISON,
     b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + POISON],
    ids=["answer", "bytes", "chunked", "204", "304", "empty-lines", "empty"],
)  # fmt: skip
async def test_what_follows_an_answer_is_nobodys_answer(first: bytes, gateway: Running, backend: Backend) -> None:
    turns = [answering(first), answering(answer(b"mine"))]

    async def script(connection: Connection) -> None:
        await turns[min(len(backend.connections), 2) - 1](connection)

    backend.script = script
    client = await gateway.connect()
    response = await client.ask(request())
    assert response.status in {200, 204, 304, 502}
    assert b"poison" not in response.body or response.status == 502
    for _ in range(2):
        response = await client.ask(request())
        assert (response.status, response.body) == (200, b"mine")
    assert backend.connections[0].ended


async def test_what_follows_a_submits_answer_is_nobodys_answer(gateway: Running, backend: Backend) -> None:
    turns = [answering(OK + POISON), answering(answer(b"mine"))]

    async def script(connection: Connection) -> None:
        await turns[min(len(backend.connections), 2) - 1](connection)

    backend.script = script
    client = await gateway.connect()
    assert b"poison" not in (await client.ask(SUBMISSION, b"POST")).body
    assert (await client.ask(request())).body == b"mine"


async def test_an_answer_on_an_idle_connection_is_nobodys_answer(gateway: Running, backend: Backend) -> None:
    poisoned = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(answer(b"first"))
        if len(backend.connections) == 1:
            await poisoned.wait()
            connection.send(POISON)
            await connection.end()
        else:
            await obliging(connection)

    backend.script = script
    client = await gateway.connect()
    assert (await client.ask(request())).body == b"first"
    await gateway.finished(1)
    poisoned.set()
    await backend.connections[0].end()
    assert (await client.ask(request())).body == b"first"
    assert len(backend.connections) == 2


async def test_an_answer_that_races_with_the_next_request_is_refused_or_unread(
    gateway: Running, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream answers the next request before it came, in the same breath as the request is sent.

    No turn ends by the clock here: on a busy machine it might with an answer, and its connection would not be used
    again.
    """
    monkeypatch.setattr("gateway.aio.turn.MAX_SECONDS", float("inf"))

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(answer(b"first"))
        await connection.request()
        connection.send(answer(b"second") + POISON)
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    client.send(request() * 3)
    bodies = [(await client.response()).body for _ in range(3)]
    assert bodies[:2] == [b"first", b"second"]
    assert bodies[2] == b"first"


async def test_a_body_after_a_head_request_is_nobodys_answer(start: Start, backend: Backend) -> None:
    routes = [{"name": "any", "methods": ["GET", "HEAD"], "path": "/{rest*}", "access": "anyone"}]
    gateway = await start(routes=routes)
    client = await gateway.connect()
    backend.script = answering(answer(POISON))
    response = await client.ask(request("HEAD", "/a"), b"HEAD")
    assert response.status in {200, 502}
    assert response.body == b""
    backend.script = answering(answer(b"mine"))
    assert (await client.ask(request("GET", "/a"))).body == b"mine"


# Early answers


@shared
@pytest.mark.parametrize("status", [b"413 Content Too Large", b"200 OK", b"503 Service Unavailable"])
@pytest.mark.parametrize("framing", ["counted", "chunked"])
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_answer_before_the_bodys_end_is_passed_on_and_ends_the_connection(
    sort: Upload, framing: str, status: bytes, gateway: Running, backend: Backend
) -> None:
    async def script(connection: Connection) -> None:
        await connection.has(10)
        await connection.head()
        connection.send(answer(b'{"early": true}', status=status))
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    framed = "Content-Length: 3000000" if framing == "counted" else "Transfer-Encoding: chunked"
    client.send(request("POST", sort.target, framed, *sort.headers))
    piece = sort.body(b"hello" * 20)[:-50]
    client.send(piece if framing == "counted" else b"%x\r\n%b\r\n" % (len(piece), piece))
    response = await client.response(b"POST")
    if sort.is_form and status == b"200 OK":  # a job that was accepted before its pages were reserved
        response.is_refusal(502, "upstream_broke_off")
    else:
        assert (response.status, response.body) == (int(status[:3]), b'{"early": true}')
    assert response.value(b"connection") == b"close"
    client.send(bytes(1000))
    await client.rest()
    await gateway.finished(1)
    await backend.all_closed()
    assert backend.requests == []
    await serves_on(gateway, backend)


@shared
@pytest.mark.parametrize("answered", [answer(b"early"), chunked(b"ear", b"ly")], ids=["counted", "chunked"])
async def test_an_early_answer_ends_the_upstream_connection_and_not_the_clients(
    answered: bytes, gateway: Running, backend: Backend
) -> None:
    """What is left of a small body is read and dropped: nothing of it reaches the upstream, nor the next request."""

    async def script(connection: Connection) -> None:
        if len(backend.connections) > 1:
            await obliging(connection)
        await connection.head()
        connection.send(answered)
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    client.send(request("POST", PLAIN, "Content-Length: 100000"))
    client.send(b"a" * 1000)
    response = await client.response(b"POST")
    assert (response.status, response.body) == (200, b"early")
    assert response.values(b"connection") == []
    client.send(b"b" * 99_000)
    assert (await client.ask(request())).status == 200
    await gateway.finished(2)
    assert [arrived.method for arrived in backend.requests] == [b"GET"]
    assert b"b" not in backend.connections[0].received.partition(b"\r\n\r\n")[2]


@shared
@pytest.mark.parametrize("coding", ["counted", "chunked"])
async def test_an_answer_that_needs_the_rest_of_its_request_gets_it(
    coding: str, gateway: Running, backend: Backend
) -> None:
    """An upstream that answers as it reads: what it got comes back, piece by piece, both ways at once."""
    pieces = 40
    size = 50_000

    async def echo(connection: Connection) -> None:
        head = len(await connection.head())
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * size))
        for number in range(1, pieces + 1):
            await connection.has(head + number * size)
            await connection.sent(b"%c" % (number + 32) * size)
        await connection.request()
        await obliging(connection)

    backend.script = echo
    client = await gateway.connect()
    framed = f"Content-Length: {pieces * size}" if coding == "counted" else "Transfer-Encoding: chunked"
    client.send(request("POST", PLAIN, framed))
    for _ in range(pieces):
        piece = b"a" * size
        client.send(piece if coding == "counted" else b"%x\r\n%b\r\n" % (size, piece))
    if coding == "chunked":
        client.send(b"0\r\n\r\n")
    response = await client.response(b"POST")
    assert response.body == b"".join(b"%c" % (number + 32) * size for number in range(1, pieces + 1))
    (arrived,) = await backend.got(1)
    assert arrived.body == b"a" * size * pieces
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (200, "forwarded")
    assert (await gateway.ask(request())).status == 200


async def test_a_fault_in_the_rest_of_a_body_cuts_the_answer_off(gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    client.send(request("POST", PLAIN, "Transfer-Encoding: chunked"))
    client.send(b"5\r\nhello\r\n")
    got = b""
    while b"half" not in got:
        got += await client.read_some()
    client.send(b"no chunk\r\n")
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (200, "body_malformed")
    await backend.all_closed()
    await serves_on(gateway, backend)


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_upstream_that_leaves_within_an_upload(sort: Upload, gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.head()
        connection.reset()

    backend.script = script
    client = await gateway.connect()
    begun = request("POST", sort.target, "Content-Length: 1000000", *sort.headers) + sort.body(b"hello" * 20)[:-50]
    client.send(begun)
    (await client.response()).is_refusal(502, "upstream_broke_off")
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["status"]) == ("upstream_broke_off", 502)


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_upstream_that_leaves_within_an_upload_that_never_pauses(
    sort: Upload, gateway: Running, backend: Backend
) -> None:
    async def script(connection: Connection) -> None:
        await connection.has(100_000)
        connection.reset()

    backend.script = script
    client = await gateway.connect()
    client.send(request("POST", sort.target, *sort.headers, body=sort.body(bytes(500_000))))
    (await client.response()).is_refusal(502, "upstream_broke_off")


# Connections that the upstream closed


def closing_when_idle(closes: asyncio.Event) -> Script:
    """Answers once, then closes at the sight of the next request; connections after the first are obliging."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(OK)
        if len(connection.backend.connections) > 1:
            await obliging(connection)
        first = len(connection.received)
        await closes.wait()
        await connection.has(first + 1)
        connection.reset()

    return script


async def test_a_poll_that_a_used_connection_lost_goes_once_more(gateway: Running, backend: Backend) -> None:
    closes = asyncio.Event()
    closes.set()
    backend.script = closing_when_idle(closes)
    gateway.own("job-1-again")
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    assert (await client.ask(request("GET", RESULT + "-again"))).status == 200
    assert len(backend.connections) == 2
    assert [event["retried"] for event in await gateway.finished(2)] == [False, True]
    assert gateway.metric("gateway_upstream_retries_total") == 1


ANY_METHOD = [{"name": "any", "methods": ["POST", "PUT", "DELETE"], "path": "/any", "access": "anyone"}]


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("PUT", b"what is put"), ("DELETE", b"")])
async def test_what_can_not_go_once_more_gets_a_new_connection(
    method: str, body: bytes, start: Start, backend: Backend
) -> None:
    backend.script = closing_when_idle(asyncio.Event())  # the first one is open, and would carry nothing more
    gateway = await start(routes=ANY_METHOD)
    client = await gateway.connect()
    for _ in range(2):
        assert (await client.ask(request(method, "/any", body=body))).status == 200
    assert len(backend.connections) == 2
    assert [event["upstream_connection"] for event in await gateway.finished(2)] == ["new", "new"]


async def test_a_poll_is_sent_twice_at_the_most(gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        if len(backend.connections) > 1:
            connection.reset()
            return
        await connection.request()
        connection.send(OK)
        await connection.request()
        connection.reset()

    backend.script = script
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    (await client.ask(request())).is_refusal(502, "upstream_broke_off")
    assert len(backend.connections) == 2


async def test_a_poll_whose_answer_had_begun_is_not_sent_again(gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(OK)
        await connection.request()
        connection.send(b"HTTP/1.1 2")
        connection.finish()

    backend.script = script
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    (await client.ask(request())).is_refusal(502, "upstream_broke_off")
    assert len(backend.connections) == 1


@shared
@pytest.mark.parametrize("sent", [SUBMISSION, UPLOAD, request("POST", PLAIN)], ids=["submit", "upload", "no-body"])
async def test_a_post_is_never_sent_twice(sent: bytes, gateway: Running, backend: Backend) -> None:
    posts = 0

    async def script(connection: Connection) -> None:
        nonlocal posts
        while True:
            arrived = await connection.request()
            if arrived.method == b"POST":
                posts += 1
                connection.reset()
                return
            connection.send(OK)

    backend.script = script
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    (await client.ask(sent)).is_refusal(502, "upstream_broke_off")
    assert posts == 1
    assert len([arrived for arrived in backend.requests if arrived.method == b"POST"]) == 1


async def test_a_connection_that_was_closed_between_two_polls_is_not_used(gateway: Running, backend: Backend) -> None:
    backend.script = closing_after(OK)
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    await backend.connections[0].end()
    assert (await client.ask(request())).status == 200
    assert len(backend.connections) == 2
    assert len(backend.requests) == 2


async def test_connection_close_of_the_upstream_is_honoured(gateway: Running, backend: Backend) -> None:
    backend.script = answering(answer(b"hello", b"Connection: close"))
    client = await gateway.connect()
    for _ in range(2):
        response = await client.ask(request())
        assert (response.body, response.value(b"connection")) == (b"hello", None)
    assert len(backend.connections) == 2


async def test_idle_connections_are_closed_before_the_upstream_does(start: Start, backend: Backend) -> None:
    gateway = await start(upstream={"idle_timeout": "100ms"})
    assert (await gateway.ask(request())).status == 200
    await backend.connections[0].end()


async def test_a_submits_answer_beyond_256_kb_is_refused(gateway: Running, backend: Backend) -> None:
    backend.script = answering(answer(bytes(262_145)))
    await fails(gateway, SUBMISSION, 502, "upstream_broke_off")


async def test_a_submits_answer_in_a_coding_nobody_asked_for_is_refused(gateway: Running, backend: Backend) -> None:
    backend.script = answering(answer(b"\x1f\x8b", b"Content-Encoding: gzip"))
    await fails(gateway, SUBMISSION, 502, "upstream_broke_off")


async def test_deeply_nested_json_in_a_submits_answer_is_refused_or_passed_on(
    gateway: Running, backend: Backend
) -> None:
    backend.script = answering(answer(b"[" * 500_000))
    response = await gateway.ask(SUBMISSION, b"POST")
    assert response.status in {200, 502}
    assert response.reason in {None, "upstream_broke_off"}


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_chunked_request_is_framed_anew_when_the_upstream_is_slow_to_take_it(
    sort: Upload, gateway: Running, backend: Backend
) -> None:
    body = sort.body(b"a" * 300_000)
    client = await gateway.connect()
    response = await client.ask(
        request("POST", sort.target, "Transfer-Encoding: chunked", *sort.headers) + chunks(body), b"POST"
    )
    assert response.status == 200
    assert backend.requests[0].body == body


async def test_trailers_of_an_answer_are_dropped(gateway: Running, backend: Backend) -> None:
    trailers = b"Set-Cookie: canary=1\r\nContent-Encoding: gzip\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    backend.script = answering(head + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    client = await gateway.connect()
    response = await client.ask(request())
    assert (response.status, response.body) == (200, b"hello")
    assert response.value(b"set-cookie") is response.value(b"content-encoding") is None


@shared
@pytest.mark.parametrize("endless", [b"X-A: canary\r\n", b"canary"], ids=["trailers", "one-trailer"])
async def test_trailers_without_end_are_cut_off(endless: bytes, gateway: Running, backend: Backend) -> None:
    taken = 0

    async def script(connection: Connection) -> None:
        nonlocal taken
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: ")
        while not connection.ended and taken < 20_000_000:
            connection.send(endless * 1000)
            taken += len(endless) * 1000
            await asyncio.sleep(0)

    backend.script = script
    client = await gateway.connect()
    client.send(request())
    with pytest.raises(Truncated):
        await client.response()
    assert taken < 20_000_000


async def test_an_empty_line_before_an_answer_is_not_its_head(gateway: Running, backend: Backend) -> None:
    """Heads are remembered by their bytes: nobody may get another one's."""
    bodies = (b"first", b"second!")

    async def script(connection: Connection) -> None:
        for body in bodies:
            await connection.request()
            head = b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Who: %b\r\n\r\n" % (len(body), body)
            connection.send(head + body)
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    for body in bodies:
        response = await client.ask(request())
        assert (response.value(b"x-who"), response.body) == (body, body)
    assert len(backend.connections) == 1


async def test_an_answer_to_a_submit_that_is_an_error_passes_as_it_is(gateway: Running, backend: Backend) -> None:
    detail = b'{"detail": [{"msg": "request_check_url", "input": "' + b"x" * 300_000 + b'"}]}'
    backend.script = answering(answer(detail, status=b"422 Unprocessable Content"))
    client = await gateway.connect()
    response = await client.ask(SUBMISSION, b"POST")
    assert (response.status, response.body) == (422, detail)
