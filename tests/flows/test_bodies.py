"""Bodies: invited late, capped, streamed with back-pressure both ways, and never whole when they are not."""

import asyncio
import random
import re
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.support.backend import OK, Backend, Connection, answer, obliging
from tests.support.client import Client
from tests.support.gateway import KEY, RESULT, SUBMIT, Running, Start, chunks, request
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


def upload(length: int | None, *headers: str, key: str | None = KEY, target: str = SUBMIT) -> bytes:
    """The head of an upload; chunked when it has no length."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return request("POST", target, framing, *headers, key=key)


# body_limit: 1KB and the 0.1 % that multipart framing may add.
MOST = 1025
EXPECT = "Expect: 100-continue"


# The invitation


async def test_a_permitted_upload_is_invited_and_forwarded(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    client.send(upload(5, EXPECT))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    response = await client.ask(b"hello", b"POST")
    assert (response.status, response.interim) == (200, [])
    (arrived,) = backend.requests
    assert (arrived.body, arrived.value(b"content-length"), arrived.value(b"expect")) == (b"hello", b"5", None)
    (event,) = await gateway.finished(1)
    assert (event["received"], event["sent"], event["reason"]) == (5, 17, "forwarded")


async def test_a_client_that_does_not_wait_for_the_invitation_is_served(gateway: Running, backend: Backend) -> None:
    response = await gateway.ask(upload(None, EXPECT) + chunks(b"hello"), b"POST")
    assert (response.status, response.interim) == (200, [100])
    assert backend.requests[0].body == b"hello"


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
    head: dict[str, str], status: int, reason: str, length: int | None, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    response = await client.ask(upload(length, EXPECT, **head))
    response.is_refusal(status, reason)
    assert response.interim == []
    assert response.value(b"connection") == b"close"
    await client.is_closed()
    await backend.got_nothing()
    assert gateway.counted(status=status, reason=reason) == 1


async def test_an_upload_from_a_wrong_address_is_not_invited(start: Start, backend: Backend) -> None:
    gateway = await start(network={"allow": ["10.0.0.0/8"]})
    client = await gateway.connect()
    (await client.ask(upload(5, EXPECT))).is_refusal(403, "address_denied")
    await client.is_closed()
    await backend.got_nothing()


async def test_an_upload_that_says_it_is_too_large_is_not_invited(start: Start, backend: Backend) -> None:
    gateway = await start(profiles={"default": {"body_limit": "1KB"}})
    client = await gateway.connect()
    problem = (await client.ask(upload(MOST + 1, EXPECT))).is_refusal(413, "body_too_large")
    assert re.search(r"limit is 102[45]\b", problem["detail"])
    await client.is_closed()
    await backend.got_nothing()
    client = await gateway.connect()
    response = await client.ask(upload(MOST, EXPECT) + noise(MOST))
    assert (response.status, response.interim) == (200, [100])


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


async def test_nobody_is_invited_while_the_upstream_is_gone(gateway: Running, backend: Backend) -> None:
    await backend.hang_up()
    client = await gateway.connect()
    response = await client.ask(upload(5, EXPECT))
    response.is_refusal(502, "upstream_unreachable")
    assert response.interim == []


# The limit


@pytest.mark.parametrize("sizes", [(2048,), (600, 600), (1,) * (MOST + 1)], ids=["one", "two", "many"])
async def test_a_chunked_body_beyond_the_limit_is_never_whole_upstream(
    sizes: tuple[int, ...], start: Start, backend: Backend
) -> None:
    gateway = await start(profiles={"default": {"body_limit": "1KB"}})
    client = await gateway.connect()
    response = await client.ask(upload(None) + chunks(*(noise(size) for size in sizes)))
    response.is_refusal(413, "body_too_large")
    await client.is_closed()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"], event["route"]) == (413, "body_too_large", "submit")
    assert gateway.counted(status=413, reason="body_too_large", route="submit") == 1
    await backend.settled()
    await backend.all_closed()
    assert backend.requests == []


async def test_a_chunked_body_of_just_the_limit_is_forwarded(start: Start, backend: Backend) -> None:
    gateway = await start(profiles={"default": {"body_limit": "1KB"}})
    response = await gateway.ask(upload(None) + chunks(noise(1000), noise(MOST - 1000)), b"POST")
    assert response.status == 200
    assert len(backend.requests[0].body) == MOST


async def test_an_upload_of_nothing_is_forwarded(gateway: Running, backend: Backend) -> None:
    assert (await gateway.ask(upload(0), b"POST")).status == 200
    assert (await gateway.ask(upload(None) + chunks(), b"POST")).status == 200
    assert (await gateway.ask(request("POST", SUBMIT), b"POST")).status == 200
    assert [arrived.body for arrived in backend.requests] == [b"", b"", b""]


# What is refused is drained, within bounds


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


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
async def test_an_upstream_that_does_not_read_makes_the_gateway_stop_reading(
    chunked: bool, gateway: Running, backend: Backend
) -> None:
    size = 60 * MB
    reads = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        connection.pause()
        await reads.wait()
        connection.resume()
        arrived = await connection.request()
        connection.send(answer(sha256(arrived.body).hexdigest().encode()))

    backend.script = script
    client = await gateway.connect()
    client.send(upload(None if chunked else size))
    whole = noise(MB)
    framed = b"%x\r\n%b\r\n" % (len(whole), whole) if chunked else whole
    sent = 0
    while sent < 60:
        client.send(framed)
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
        await client.send_all(framed)
    if chunked:
        client.send(b"0\r\n\r\n")
    response = await client.response(b"POST", within=30)
    assert response.body.decode() == sha256(whole * 60).hexdigest()


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
        body = noise(size, seed)
        client = await gateway.connect()
        client.send(upload(None if seed % 2 else size))
        for i in range(0, size, 99_999):
            piece = body[i : i + 99_999]
            await client.send_all(b"%x\r\n%b\r\n" % (len(piece), piece) if seed % 2 else piece)
        client.send(b"0\r\n\r\n" if seed % 2 else b"")
        response = await client.response(b"POST", within=60)
        assert response.body.decode() == sha256(body).hexdigest()

    async def down(seed: int) -> None:
        client = await gateway.connect()
        response = await client.ask(request("GET", f"/api/v1/marker/job-{seed}"), within=60)
        assert sha256(response.body).digest() == sha256(noise(size, seed)).digest()

    backend.script = script
    await asyncio.gather(*(up(seed) for seed in range(8)), *(down(seed) for seed in range(8)))
    await gateway.finished(16)
    assert gateway.metric("gateway_received_bytes_total") > 8 * size
    assert gateway.metric("gateway_sent_bytes_total") > 8 * size


# Clients that leave


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("politely", [False, True], ids=["abruptly", "politely"])
async def test_a_client_that_leaves_within_its_upload_takes_the_upstream_connection_with_it(
    politely: bool, chunked: bool, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    client.send(upload(None) + b"5\r\nhello\r\n" if chunked else upload(10) + b"hello")
    connection = await backend.connected()
    await backend.facts.until(lambda: b"hello" in connection.received)
    await client.close() if politely else client.abort()
    await connection.end()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"], event["source"]) == (499, "client_gone", "client")
    assert (event["route"], event["key"], event["received"]) == ("submit", "ci", 5)
    assert gateway.counted(status=499, reason="client_gone", route="submit") == 1
    assert backend.requests == []
    await eventually(lambda: gateway.metric("gateway_connections") == 0)


@pytest.mark.parametrize("framing", [b"counted", b"chunked"])
async def test_a_client_that_leaves_behind_a_released_submit_does_not_stop_it(
    framing: bytes, gateway: Running, backend: Backend
) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    client = await gateway.connect()
    client.send(upload(5) + b"hello" if framing == b"counted" else upload(None) + chunks(b"hello"))
    await backend.got(1)
    client.abort()
    await eventually(lambda: all(connection.is_gone for connection in gateway.gateway._connections.all()))
    assert gateway.requests == []
    assert not backend.connections[0].ended
    assert gateway.metric("gateway_requests_in_flight") == 1
    answers.set()
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["source"], event["key"]) == ("client_gone", "client", "ci")
    assert event["received"] == 5
    assert gateway.counted(reason="client_gone", route="submit") == 1
    assert gateway.metric("gateway_requests_in_flight") == 0
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    assert (await gateway.ask(request())).status == 200
    assert event["status"] == 499


async def test_a_client_that_leaves_behind_a_poll_ends_it(gateway: Running, backend: Backend) -> None:
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


async def test_a_client_that_half_closes_behind_its_request_is_a_client_that_left(gateway: Running) -> None:
    """TLS has no half-close that its peers agree on: what was sent before was served or not, and nothing leaks."""
    client = await gateway.connect()
    client.send(request())
    await client.close()
    await gateway.finished(1)
    await eventually(lambda: gateway.metric("gateway_connections") == 0)


async def test_a_refused_body_that_has_come_whole_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.forward.relay._DRAIN_SECONDS", 600.0)
    gateway = await start()
    client = await gateway.connect()
    body = noise(500_000)
    await client.send_all(request("POST", SUBMIT, f"Content-Length: {len(body)}", key=None))
    for at in range(0, len(body), 50_000):
        await client.send_all(body[at : at + 50_000])
    (await client.response()).is_refusal(401, "unauthenticated")
    await client.is_closed()
