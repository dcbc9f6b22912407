"""Bodies: invited late, capped, streamed with back-pressure both ways, and never whole when they are not."""

import asyncio
import random
import re
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.support.backend import OK, Backend, Connection, answer, obliging
from tests.support.client import Client
from tests.support.forms import PLAINLY, SUBMITTED, UPLOADS, Upload
from tests.support.gateway import KEY, PLAIN, RESULT, Running, Start, chunks, request, shared
from tests.support.waiting import eventually

MB = 1_048_576
# What may lie in the kernel's buffers of two connections on loopback, and a little in the gateway's.
BOUND = 24 * MB


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 -- noise, not a secret


async def is_stuck(number: Callable[[], int]) -> None:
    """Waits until a number that grows has stopped to."""
    await eventually(lambda: number() > 0)
    while True:
        before = number()
        try:
            await eventually(lambda before=before: number() > before, within=0.4)  # type: ignore[misc] # bound to its turn
        except TimeoutError:
            return


def upload(
    length: int | None, *headers: str, key: str | None = KEY, target: str | None = None, sort: Upload = PLAINLY
) -> bytes:
    """The head of an upload; chunked when it has no length."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return request("POST", target or sort.target, framing, *sort.headers, *headers, key=key)


def of_size(sort: Upload, size: int) -> bytes:
    """A whole body of just this size."""
    return sort.body(noise(size - len(sort.body(b""))))


def cut(body: bytes, pieces: int) -> list[bytes]:
    """A body in so many pieces, all but the last of one size."""
    size = -(-len(body) // pieces)
    return [body[i : i + size] for i in range(0, len(body), size)]


# body_limit: 1KB and the 0.1 % that multipart framing may add.
MAX = 1025
EXPECT = "Expect: 100-continue"


# The invitation


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_permitted_upload_is_invited_and_forwarded(sort: Upload, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    body = sort.body(b"hello")
    client.send(upload(len(body), EXPECT, sort=sort))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    response = await client.ask(body, b"POST")
    assert (response.status, response.interim) == (200, [])
    (arrived,) = backend.requests
    assert (arrived.body, arrived.value(b"expect")) == (body, None)
    assert arrived.value(b"content-length") == (None if sort.is_form else b"%d" % len(body))
    (event,) = await gateway.finished(1)
    assert (event["received"], event["sent"], event["reason"]) == (len(body), 17, "forwarded")


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_client_that_does_not_wait_for_the_invitation_is_served(
    sort: Upload, gateway: Running, backend: Backend
) -> None:
    body = sort.body(b"hello")
    response = await gateway.ask(upload(None, EXPECT, sort=sort) + chunks(body), b"POST")
    assert (response.status, response.interim) == (200, [100])
    assert backend.requests[0].body == body


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
@pytest.mark.parametrize("length", [5, 2 * MB, None])
@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        ({"key": None}, 401, "unauthenticated"),
        ({"key": "wrong"}, 401, "unauthenticated"),
        ({"target": "/nowhere"}, 404, "route_not_found"),
        ({"target": RESULT}, 405, "method_not_allowed"),
        ({"target": "/api/v1/../marker"}, 400, "bad_request"),
    ],
    ids=str,
)
async def test_a_refused_upload_is_answered_before_its_first_byte(
    head: dict[str, str],
    status: int,
    reason: str,
    length: int | None,
    sort: Upload,
    gateway: Running,
    backend: Backend,
) -> None:
    client = await gateway.connect()
    response = await client.ask(upload(length, EXPECT, sort=sort, **head))
    response.is_refusal(status, reason)
    assert response.interim == []
    assert response.value(b"connection") == b"close"
    await client.is_closed()
    await backend.got_nothing()
    assert gateway.counted(status=status, reason=reason) == 1


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_upload_from_a_wrong_address_is_not_invited(sort: Upload, start: Start, backend: Backend) -> None:
    gateway = await start(network={"allow": ["10.0.0.0/8"]})
    client = await gateway.connect()
    (await client.ask(upload(5, EXPECT, sort=sort))).is_refusal(403, "address_denied")
    await client.is_closed()
    await backend.got_nothing()


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_upload_that_says_it_is_too_large_is_not_invited(
    sort: Upload, start: Start, backend: Backend
) -> None:
    gateway = await start(profiles={"default": {"body_limit": "1KB"}})
    client = await gateway.connect()
    problem = (await client.ask(upload(MAX + 1, EXPECT, sort=sort))).is_refusal(413, "body_too_large")
    assert re.search(r"limit is 102[45]\b", problem["detail"])
    await client.is_closed()
    await backend.got_nothing()
    client = await gateway.connect()
    body = of_size(sort, MAX)
    response = await client.ask(upload(MAX, EXPECT, sort=sort) + body, b"POST")
    assert backend.requests[0].body == body
    assert (response.status, response.interim) == (200, [100])


async def test_a_body_without_a_key_is_not_told_of_a_limit_of_keys(start: Start, backend: Backend) -> None:
    gateway = await start(routes=[{"name": "open", "methods": ["POST"], "path": "/open", "access": "anyone"}])
    client = await gateway.connect()
    response = await client.ask(upload(2 * MB, EXPECT, key=None, target="/open"))
    problem = response.is_refusal(413, "body_too_large")
    assert problem["detail"].endswith("(fixed where no key is asked for).")
    await backend.got_nothing()


@shared
@pytest.mark.parametrize(
    "expect",
    ["Expect: 200-ok", "Expect: 100-continue, 200-ok", "Expect: ", "Expect: 100-continue\r\nExpect: 100-continue"],
)
async def test_other_expectations_are_not_met(expect: str, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    (await client.ask(upload(5, expect) + b"hello")).is_refusal(417, "expectation_failed")
    await client.is_closed()
    await backend.got_nothing()
    assert gateway.counted(status=417) == 1


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_nobody_is_invited_while_the_upstream_is_gone(sort: Upload, gateway: Running, backend: Backend) -> None:
    await backend.hang_up()
    client = await gateway.connect()
    response = await client.ask(upload(5, EXPECT, sort=sort))
    response.is_refusal(502, "upstream_unreachable")
    assert response.interim == []


# The limit


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
@pytest.mark.parametrize(("size", "pieces"), [(2048, 1), (1200, 2), (MAX + 1, MAX + 1)], ids=["one", "two", "many"])
async def test_a_chunked_body_beyond_the_limit_is_never_whole_upstream(
    size: int, pieces: int, sort: Upload, start: Start, backend: Backend
) -> None:
    gateway = await start(profiles={"default": {"body_limit": "1KB"}})
    client = await gateway.connect()
    response = await client.ask(upload(None, sort=sort) + chunks(*cut(of_size(sort, size), pieces)))
    response.is_refusal(413, "body_too_large")
    await client.is_closed()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"], event["route"]) == (413, "body_too_large", sort.route)
    assert gateway.counted(status=413, reason="body_too_large", route=sort.route) == 1
    await backend.settled()
    await backend.all_closed()
    assert backend.requests == []


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_chunked_body_of_just_the_limit_is_forwarded(sort: Upload, start: Start, backend: Backend) -> None:
    gateway = await start(profiles={"default": {"body_limit": "1KB"}})
    body = of_size(sort, MAX)
    response = await gateway.ask(upload(None, sort=sort) + chunks(*cut(body, 2)), b"POST")
    assert response.status == 200
    assert backend.requests[0].body == body


async def test_an_upload_of_nothing_is_forwarded(gateway: Running, backend: Backend) -> None:
    assert (await gateway.ask(upload(0), b"POST")).status == 200
    assert (await gateway.ask(upload(None) + chunks(), b"POST")).status == 200
    assert (await gateway.ask(request("POST", PLAIN), b"POST")).status == 200
    assert [arrived.body for arrived in backend.requests] == [b"", b"", b""]


# What is refused is drained, within bounds


@shared
@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_a_client_that_sends_all_of_a_refused_body_can_read_the_answer(
    framing: str, gateway: Running, backend: Backend
) -> None:
    body = noise(700_000)
    sent = upload(len(body), key=None) + body if framing == "counted" else upload(None, key=None) + chunks(body)
    client = await gateway.connect()
    client.send(sent)
    (await client.response()).is_refusal(401, "unauthenticated")
    await client.is_closed()
    await backend.got_nothing()


async def test_a_client_that_goes_on_sending_a_refused_body_is_cut_off(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    client.send(upload(200 * MB, key="wrong"))
    await push(client, 64 * MB)
    await client.rest()
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    assert gateway.metric("gateway_received_bytes_total") < BOUND
    await backend.got_nothing()


async def push(client: Client, size: int) -> int:
    """Sends until it is stuck, the connection ends, or all is sent; tells how much it was."""
    piece = noise(MB // 4)
    sent = 0
    try:
        while sent < size:
            async with asyncio.timeout(0.4):
                await client.send_all(piece)
            sent += len(piece)
    except (TimeoutError, ConnectionError):
        return sent
    return sent


# Back-pressure


def send_framed(client: Client, piece: bytes, chunked: bool) -> None:
    """Sends a piece of a body, as a chunk or as it is."""
    if piece:
        client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
async def test_an_upstream_that_does_not_read_makes_the_gateway_stop_reading(
    chunked: bool, sort: Upload, gateway: Running, backend: Backend
) -> None:
    reads = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        connection.pause()
        await reads.wait()
        connection.resume()
        arrived = await connection.request(within=60.0)  # 60 MB on a busy machine
        connection.send(answer(sha256(arrived.body).hexdigest().encode()))

    backend.script = script
    client = await gateway.connect()
    begin, end = sort.frame()
    client.send(upload(None if chunked else len(begin) + 60 * MB + len(end), sort=sort))
    send_framed(client, begin, chunked)
    whole = noise(MB)
    sent = 0
    while sent < 60:
        send_framed(client, whole, chunked)
        sent += 1
        try:
            async with asyncio.timeout(0.4):
                await client.writer.drain()
        except TimeoutError:
            break
    assert sent < 60
    assert gateway.metric("gateway_received_bytes_total") < BOUND
    reads.set()
    for _ in range(60 - sent):
        send_framed(client, whole, chunked)
        await client.writer.drain()
    send_framed(client, end, chunked)
    if chunked:
        client.send(b"0\r\n\r\n")
    response = await client.response(b"POST", within=60)
    assert response.body.decode() == sha256(begin + whole * 60 + end).hexdigest()


async def test_a_client_that_does_not_read_makes_the_gateway_stop_reading(gateway: Running, backend: Backend) -> None:
    whole = noise(MB)
    sent = 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (60 * MB))
        for _ in range(60):
            await connection.sent(whole)
            sent += 1

    backend.script = script
    client = await gateway.connect(receive_buffer=65536)
    client.send(request())
    await is_stuck(lambda: sent)
    assert sent * MB < BOUND
    response = await client.response(within=30)
    assert sha256(response.body).digest() == sha256(whole * 60).digest()
    await gateway.finished(1)


async def test_eight_uploads_and_eight_downloads_at_once_arrive_whole(gateway: Running, backend: Backend) -> None:
    size = 3 * MB

    async def script(connection: Connection) -> None:
        while True:
            arrived = await connection.request()
            if arrived.method == b"POST":
                connection.send(answer(sha256(arrived.body).hexdigest().encode()))
                continue
            seed = int(arrived.target.rpartition(b"-")[2])
            body = noise(size, seed)
            if seed % 2:
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for i in range(0, size, 100_000):
                    await connection.sent(body[i : i + 100_000])
            else:
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for i in range(0, size, 77_777):
                    await connection.sent(b"%x\r\n%b\r\n" % (len(body[i : i + 77_777]), body[i : i + 77_777]))
                connection.send(b"0\r\n\r\n")

    async def up(seed: int) -> None:
        sort = UPLOADS[seed // 2 % 2]
        body = sort.body(noise(size, seed))
        client = await gateway.connect()
        client.send(upload(None if seed % 2 else len(body), sort=sort))
        for piece in cut(body, 32):
            await client.send_all(b"%x\r\n%b\r\n" % (len(piece), piece) if seed % 2 else piece)
        client.send(b"0\r\n\r\n" if seed % 2 else b"")
        response = await client.response(b"POST", within=60)
        assert response.body.decode() == sha256(body).hexdigest()

    async def down(seed: int) -> None:
        gateway.own(f"job-{seed}")
        client = await gateway.connect()
        response = await client.ask(request("GET", f"/api/v1/marker/job-{seed}"), within=60)
        assert sha256(response.body).digest() == sha256(noise(size, seed)).digest()

    backend.script = script
    await asyncio.gather(*(up(seed) for seed in range(8)), *(down(seed) for seed in range(8)))
    await gateway.finished(16)
    assert gateway.metric("gateway_received_bytes_total") > 8 * size
    assert gateway.metric("gateway_sent_bytes_total") > 8 * size


# Clients that leave


@shared
@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("politely", [False, True], ids=["abruptly", "politely"])
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_client_that_leaves_within_its_upload_takes_the_upstream_connection_with_it(
    sort: Upload, politely: bool, chunked: bool, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    whole = sort.body(b"hello, world")
    half = whole[: whole.index(b"hello") + 5]
    framed = b"%x\r\n%b\r\n" % (len(half), half) if chunked else half
    client.send(upload(None if chunked else len(whole), sort=sort) + framed)
    connection = await backend.connected()
    await backend.facts.until(lambda: b"hello" in connection.received)
    await client.close() if politely else client.abort()
    await connection.end()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"], event["source"]) == (499, "client_gone", "client")
    assert (event["route"], event["key"], event["received"]) == (sort.route, "ci", len(half))
    assert gateway.counted(status=499, reason="client_gone", route=sort.route) == 1
    assert backend.requests == []
    await eventually(lambda: gateway.metric("gateway_connections") == 0)


@shared
@pytest.mark.parametrize("framing", [b"counted", b"chunked"])
async def test_a_client_that_leaves_after_a_released_upload_does_not_stop_its_job(
    framing: bytes, gateway: Running, backend: Backend
) -> None:
    answers, sort = asyncio.Event(), SUBMITTED

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    client = await gateway.connect()
    body = sort.body(b"hello")
    counted = framing == b"counted"
    client.send(upload(len(body) if counted else None, sort=sort) + (body if counted else chunks(body)))
    await backend.got(1)
    client.abort()
    await eventually(lambda: all(connection.is_gone for connection in gateway.gateway.listeners.connections.all()))
    assert gateway.requests == []
    assert not backend.connections[0].ended
    assert gateway.metric("gateway_requests_in_flight") == 1
    answers.set()
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["source"], event["key"]) == ("client_gone", "client", "ci")
    assert event["received"] == len(body)
    assert gateway.counted(reason="client_gone", route=sort.route) == 1
    assert gateway.metric("gateway_requests_in_flight") == 0
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    assert (await gateway.ask(request())).status == 200
    assert event["status"] == 499


@shared
@pytest.mark.parametrize("framing", [b"counted", b"chunked"])
async def test_a_client_that_leaves_after_a_body_that_starts_no_job_ends_it(
    framing: bytes, gateway: Running, backend: Backend
) -> None:
    async def script(connection: Connection) -> None:
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    counted = framing == b"counted"
    client.send(upload(5 if counted else None) + (b"hello" if counted else chunks(b"hello")))
    await backend.got(1)
    client.abort()
    await backend.connections[0].end()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"], event["received"]) == (499, "client_gone", 5)
    assert gateway.metric("gateway_requests_in_flight") == 0


async def test_a_client_that_leaves_after_a_poll_ends_it(gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    client.send(request())
    await backend.got(1)
    client.abort()
    await backend.connections[0].end()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (499, "client_gone")
    assert gateway.counted(status=499, reason="client_gone", route="result") == 1


async def test_a_client_that_leaves_within_a_download_ends_it(gateway: Running, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")
        await connection.end()

    backend.script = script
    client = await gateway.connect()
    client.send(request())
    assert (await client.reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
    client.abort()
    await backend.connections[0].end()
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["sent"]) == ("client_gone", 5)


async def test_a_client_that_half_closes_after_its_request_is_a_client_that_left(gateway: Running) -> None:
    """TLS has no half-close that its peers agree on: what was sent before was served or not, and nothing leaks."""
    client = await gateway.connect()
    client.send(request())
    await client.close()
    await gateway.finished(1)
    await eventually(lambda: gateway.metric("gateway_connections") == 0)


async def test_a_refused_body_that_has_come_whole_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.request_body.DRAIN_SECONDS", 600.0)
    gateway = await start()
    client = await gateway.connect()
    body = noise(500_000)
    await client.send_all(upload(len(body), key=None, sort=SUBMITTED))
    for at in range(0, len(body), 50_000):
        await client.send_all(body[at : at + 50_000])
    (await client.response()).is_refusal(401, "unauthenticated")
    await client.is_closed()


# What passes the parser by


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
@pytest.mark.parametrize("first", [0, 1, 5000, 65_535, 65_536, 300_000])
async def test_requests_after_a_large_body_are_requests(
    sort: Upload, first: int, gateway: Running, backend: Backend
) -> None:
    """A large body passes the parser by, however much of it came with its head; what comes after it does not."""
    client = await gateway.connect()
    body = of_size(sort, 700_001)
    large = upload(len(body), sort=sort)
    client.send(large + body[:first])
    await backend.connected()
    client.send(body[first:] + request() + large + body[:100])
    assert (await client.response(b"POST")).status == 200
    assert (await client.response()).status == 200
    client.send(body[100:] + request())
    assert (await client.response(b"POST")).status == 200
    assert (await client.response()).status == 200
    # By connections: on which one the last goes depends on whether the loop was busy as the one before it ended.
    assert sorted(arrived.body for arrived in backend.requests) == [b"", b"", body, body]
    assert len(await gateway.finished(4)) == 4


@shared
@pytest.mark.parametrize("behind", [b"GET / HTTP/1.1\r\n\r\n", b"\x00nonsense\r\n\r\n", b"x" * 70_000])
async def test_nonsense_after_a_large_body_is_refused(behind: bytes, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    body = of_size(PLAINLY, 700_001)
    client.send(upload(len(body)) + body + behind)
    assert (await client.response(b"POST")).status == 200
    assert (await client.response()).status in {400, 431}
    assert [arrived.body for arrived in backend.requests] == [body]
    await client.is_closed()


@shared
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_large_body_that_breaks_off_never_looks_whole(
    sort: Upload, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    body = of_size(sort, 900_000)
    client.send(upload(len(body), sort=sort) + body[:-1])
    await backend.connected()
    client.abort()
    (event,) = await gateway.finished(1)
    assert event["reason"] == "client_gone"
    assert backend.requests == []
