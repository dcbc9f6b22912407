"""Slow and silent clients: each is ended by its deadline, and meanwhile others are served."""

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.backend import Backend, Connection, silent
from tests.support.client import Client
from tests.support.forms import UPLOADS, Upload
from tests.support.gateway import KEY, PLAIN, Running, Start, chunks, request
from tests.support.waiting import eventually

MB = 1_048_576


async def ticks(seconds: float) -> None:
    """A pause that belongs to the client played, not to the test's timing."""
    await asyncio.sleep(seconds)


@asynccontextmanager
async def dripping(client: Client, data: bytes, every: float = 0.02) -> AsyncIterator[None]:
    """Sends byte by byte beside the body of the with."""

    async def drip() -> None:
        for i in range(len(data)):
            client.send(data[i : i + 1])
            await ticks(every)

    task = asyncio.get_running_loop().create_task(drip())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def is_served(gateway: Running) -> None:
    """A good request gets its answer while others are slow."""
    assert (await gateway.ask(request())).status == 200


async def test_a_connection_that_asks_nothing_is_closed_without_a_word(start: Start, backend: Backend) -> None:
    gateway = await start(listen={"head_timeout": "200ms"})
    client = await gateway.connect()
    await is_served(gateway)
    await client.is_closed()
    await gateway.finished(1)
    assert len(backend.requests) == 1


async def test_a_connection_that_asks_nothing_more_is_closed_without_a_word(start: Start) -> None:
    gateway = await start(listen={"idle_timeout": "200ms"})
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    await client.is_closed()
    await gateway.finished(1)


async def test_an_idle_connection_ends_with_its_longest_life(start: Start) -> None:
    gateway = await start(listen={"connection_lifetime": "1s"})
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    await client.is_closed()


async def test_a_connection_that_is_busy_then_ends_after_its_present_answer(start: Start, backend: Backend) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    backend.script = script
    gateway = await start()
    client = await gateway.connect()
    body = b"x" * 300_000  # past the parser
    client.send(request("POST", PLAIN, f"Content-Length: {len(body)}") + body[:100_000])
    await backend.connected()
    (connection,) = gateway.gateway.listeners.connections.all()
    connection.ends_at = 0.0
    await eventually(lambda: connection.is_retired)
    client.send(body[100_000:])
    await backend.got(1)
    answers.set()
    response = await client.response(b"POST")
    assert (response.status, response.value(b"connection")) == (200, b"close")
    await client.is_closed()
    assert backend.requests[0].body == body


async def test_a_head_that_stops_is_answered_and_closed(start: Start, backend: Backend) -> None:
    gateway = await start(listen={"head_timeout": "200ms"})
    client = await gateway.connect()
    client.send(request()[:60])
    await is_served(gateway)
    problem = (await client.response()).is_refusal(408, "head_too_slow")
    await client.is_closed()
    event = (await gateway.finished(2))[-1]
    assert (event["reason"], event["request_id"], event["source"]) == (
        "head_too_slow",
        problem["request_id"],
        "client",
    )
    assert gateway.counted(status=408, reason="head_too_slow", route="unmatched") == 1
    assert len(backend.requests) == 1


@pytest.mark.parametrize("behind", [False, True], ids=["first", "second"])
async def test_a_head_that_drips_is_answered_and_closed(behind: bool, start: Start, backend: Backend) -> None:
    gateway = await start(listen={"head_timeout": "200ms"})
    client = await gateway.connect()
    if behind:
        assert (await client.ask(request())).status == 200
    async with dripping(client, request("GET", "/api/v1/marker/" + "a" * 1000)):
        await is_served(gateway)
        (await client.response()).is_refusal(408, "head_too_slow")
        await client.is_closed()
    assert all(b"aaaa" not in arrived.target for arrived in backend.requests)


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_body_that_stops_is_answered_and_closed(sort: Upload, start: Start, backend: Backend) -> None:
    gateway = await start(listen={"body_idle_timeout": "200ms"})
    client = await gateway.connect()
    body = sort.body(b"hello, world")
    half = body[: len(body) // 2]
    client.send(request("POST", sort.target, f"Content-Length: {len(body)}", *sort.headers) + half)
    await is_served(gateway)
    (await client.response()).is_refusal(408, "body_too_slow")
    await client.is_closed()
    event = (await gateway.finished(2))[-1]
    assert (event["reason"], event["route"], event["received"]) == ("body_too_slow", sort.route, len(half))
    assert gateway.counted(status=408, reason="body_too_slow", route=sort.route) == 1
    await backend.facts.until(
        lambda: all(not connection.requests for connection in backend.connections if connection.ended)
    )
    assert [arrived.method for arrived in backend.requests] == [b"GET"]


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_an_invited_body_that_never_comes_is_answered_and_closed(sort: Upload, start: Start) -> None:
    gateway = await start(listen={"body_idle_timeout": "200ms"})
    client = await gateway.connect()
    response = await client.ask(
        request("POST", sort.target, "Expect: 100-continue", "Content-Length: 100", *sort.headers)
    )
    assert (response.status, response.interim, response.reason) == (408, [100], "body_too_slow")
    await client.is_closed()


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_body_that_drips_below_the_least_rate_is_answered_and_closed(
    sort: Upload, chunked: bool, start: Start, backend: Backend
) -> None:
    gateway = await start(listen={"body_idle_timeout": "300ms", "body_min_rate": "1KB"})
    client = await gateway.connect()
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100000"
    client.send(request("POST", sort.target, framing, *sort.headers))
    body = sort.body(b"a" * 1000)
    async with dripping(client, chunks(*(body[i : i + 1] for i in range(len(body)))) if chunked else body):
        await is_served(gateway)
        (await client.response()).is_refusal(408, "body_too_slow")
        await client.rest()
    event = (await gateway.finished(2))[-1]
    assert 0 < event["received"] < 300
    await eventually(lambda: backend.connections[0].ended or backend.connections[-1].ended)
    assert [arrived.method for arrived in backend.requests] == [b"GET"]


async def test_a_chunk_size_that_drips_is_as_slow_as_a_body(start: Start) -> None:
    gateway = await start(listen={"body_idle_timeout": "200ms"})
    client = await gateway.connect()
    client.send(request("POST", PLAIN, "Transfer-Encoding: chunked"))
    async with dripping(client, b"00000000005;" + b"a" * 1000):
        response = await client.response()
        assert response.reason in {"body_too_slow", "body_malformed", "bad_request"}
        await client.rest()


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_body_above_the_least_rate_is_served_however_long_it_takes(
    sort: Upload, start: Start, backend: Backend
) -> None:
    gateway = await start(listen={"body_idle_timeout": "200ms", "body_min_rate": "1KB", "head_timeout": "200ms"})
    client = await gateway.connect()
    body = sort.body(bytes(30_000))
    client.send(request("POST", sort.target, f"Content-Length: {len(body)}", *sort.headers))
    for start_of_piece in range(0, len(body), 2000):
        client.send(body[start_of_piece : start_of_piece + 2000])
        await ticks(0.04)
    assert (await client.response(b"POST")).status == 200
    assert backend.requests[0].body == body


async def test_the_least_rate_can_be_switched_off(start: Start) -> None:
    gateway = await start(listen={"body_idle_timeout": "200ms", "body_min_rate": "0B"})
    client = await gateway.connect()
    client.send(request("POST", PLAIN, "Content-Length: 20"))
    async with dripping(client, b"a" * 20, every=0.03):
        assert (await client.response(b"POST")).status == 200


async def endless(connection: Connection) -> None:
    """An answer that nobody reads to its end."""
    await connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while not connection.ended:
        await connection.sent(bytes(MB))


async def test_a_client_that_reads_nothing_of_its_answer_is_cut_off(start: Start, backend: Backend) -> None:
    gateway = await start(listen={"send_idle_timeout": "300ms"})
    backend.script = endless
    client = await gateway.connect(receive_buffer=16_384)
    client.send(request())
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["source"]) == ("client_too_slow", "client")
    assert gateway.counted(reason="client_too_slow") == 1
    await backend.connections[0].end()
    await client.rest()
    await eventually(lambda: gateway.metric("gateway_connections") == 0)


async def test_a_client_that_drips_from_its_answer_is_cut_off(start: Start, backend: Backend) -> None:
    gateway = await start(listen={"send_idle_timeout": "300ms", "body_min_rate": "1GB"})
    backend.script = endless
    client = await gateway.connect(receive_buffer=16_384)
    client.send(request())
    while not gateway.requests:
        await client.reader.read(20_000)
        await ticks(0.02)
    (event,) = await gateway.finished(1)
    assert event["reason"] == "client_too_slow"
    await backend.connections[0].end()
    await eventually(lambda: gateway.metric("gateway_connections") == 0)


async def test_a_client_that_reads_its_answer_in_pauses_is_served(start: Start, backend: Backend) -> None:
    gateway = await start(listen={"send_idle_timeout": "400ms"})

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * MB))
        for _ in range(16):
            await connection.sent(bytes(MB))

    backend.script = script
    client = await gateway.connect()
    client.send(request())
    read = 0
    while read < 16 * MB:
        read += len(await client.reader.read(2 * MB))
        await ticks(0.01)
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["sent"]) == ("forwarded", 16 * MB)


async def test_a_handshake_that_never_comes_is_ended(start: Start) -> None:
    gateway = await start(listen={"handshake_timeout": "200ms"})
    silent = await gateway.connect(tls=False)
    begun = await gateway.connect(tls=False)
    begun.send(b"\x16\x03\x01\x02\x00\x01\x00")
    await eventually(lambda: gateway.metric("gateway_connections") == 2)
    await is_served(gateway)
    assert await silent.rest() == b""
    await begun.rest()
    await eventually(lambda: turned_away(gateway) == {"silent": 1, "handshake": 1})
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    await gateway.finished(1)


def turned_away(gateway: Running) -> dict[str, int]:
    return {why: count for why, count in gateway.gateway.listeners.public.refused.items() if count}


async def test_connections_that_end_without_a_byte_are_silent_and_no_failed_handshakes(gateway: Running) -> None:
    """As TCP probes of balancers and port scans are: closed by either side, politely or not."""
    await (await gateway.connect(tls=False)).close()
    half_closed = await gateway.connect(tls=False)
    half_closed.writer.write_eof()
    await half_closed.rest()
    reset = await gateway.connect(tls=False)
    reset.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.abort()
    await eventually(lambda: turned_away(gateway) == {"silent": 3})
    broken = await gateway.connect(tls=False)
    broken.send(b"\x16")
    await broken.close()
    await eventually(lambda: turned_away(gateway) == {"silent": 3, "handshake": 1})
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    await is_served(gateway)


async def test_connections_are_capped_in_all(start: Start) -> None:
    gateway = await start(listen={"max_connections": 3})
    held = [await gateway.connect(source=f"127.0.0.{i}") for i in (1, 2, 3)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await gateway.connect(source="127.0.0.4")
    assert gateway.metric("gateway_connections_refused_total", why="too_many") == 1
    assert (await held[0].ask(request())).status == 200
    held[1].abort()
    await eventually(lambda: gateway.metric("gateway_connections") == 2)
    await is_served(gateway)


async def test_connections_are_capped_by_address(start: Start) -> None:
    gateway = await start(listen={"max_connections_per_address": 2})
    held = [await gateway.connect() for _ in range(2)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await gateway.connect()
    assert gateway.metric("gateway_connections_refused_total", why="too_many_of_address") == 1
    other = await gateway.connect(source="127.0.0.2")
    assert (await other.ask(request())).status == 200
    assert (await held[0].ask(request())).status == 200
    held[1].abort()
    await eventually(lambda: gateway.metric("gateway_connections") == 2)
    await is_served(gateway)


async def test_trusted_proxies_are_exempt_from_the_cap_by_address(start: Start) -> None:
    gateway = await start(listen={"max_connections_per_address": 1}, network={"trusted_proxies": ["127.0.0.9/32"]})
    for _ in range(3):
        client = await gateway.connect(source="127.0.0.9")
        assert (await client.ask(request())).status == 200


async def test_handshakes_under_way_count_for_the_caps(start: Start) -> None:
    gateway = await start(listen={"max_connections_per_address": 2, "handshake_timeout": "2s"})
    silent = [await gateway.connect(tls=False) for _ in range(2)]
    await eventually(lambda: gateway.metric("gateway_connections") == 2)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await gateway.connect()
    for client in silent:
        await client.rest()
    await eventually(lambda: gateway.metric("gateway_connections") == 0)
    await is_served(gateway)


async def test_a_hundred_slow_clients_do_not_keep_a_good_one_waiting(start: Start) -> None:
    gateway = await start()
    sockets = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(50)]
    slow = [await gateway.connect() for _ in range(50)]
    for i, client in enumerate(slow):
        client.send(request()[:20] if i % 2 else request("POST", PLAIN, "Content-Length: 1000") + b"a")
    began = asyncio.get_running_loop().time()
    await is_served(gateway)
    assert asyncio.get_running_loop().time() - began < 5
    for plain in sockets:
        plain.close()


async def test_one_that_pipelines_leaves_the_others_their_turn(gateway: Running) -> None:
    """Requests that are refused at once need no wait, so nothing but a turn of the loop in between stops them."""
    many = 3000
    greedy = await gateway.connect()
    good = await gateway.connect()
    greedy.send(request("GET", "/nothing") * many)
    assert (await good.ask(request())).status == 200
    assert len(gateway.requests) < many
    for _ in range(many):
        (await greedy.response()).is_refusal(404, "route_not_found")


async def test_a_connection_says_how_it_stands(gateway: Running, backend: Backend) -> None:
    backend.script = silent
    client = await gateway.connect()
    await eventually(lambda: bool(gateway.gateway.listeners.connections.all()))
    (connection,) = gateway.gateway.listeners.connections.all()
    seen = [repr(connection)]
    for sent, stage in (
        (b"POST " + PLAIN.encode(), "head"),
        (request("POST", PLAIN, "Content-Length: 2")[5 + len(PLAIN) :], "body"),
        (b"xy", "serving"),
    ):
        client.send(sent)
        await eventually(lambda: f" {stage} " in repr(connection))  # noqa: B023 -- it is awaited here
        seen.append(repr(connection))
    client.abort()
    await eventually(lambda: " gone " in repr(connection))
    assert seen == [
        f"<ClientConnection 127.0.0.1 {stage} requests={count}>"
        for stage, count in (("idle", 0), ("head", 0), ("body", 1), ("serving", 1))
    ]


async def test_small_answers_are_not_held_back(gateway: Running) -> None:
    async with await gateway.connect() as client:
        assert (await client.ask(request())).status == 200
        (connection,) = gateway.gateway.listeners.connections.all()
        assert connection.transport is not None
        ours = connection.transport.get_extra_info("socket")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_little_waits_for_a_client_until_it_has_shown_who_it_is(gateway: Running) -> None:
    async with await gateway.connect() as client:
        limits = []
        for key in (None, "canary-nobodys", KEY, None):
            assert (await client.ask(request(key=key))).status == (200 if key == KEY else 401)
            (connection,) = gateway.gateway.listeners.connections.all()
            transport = connection.transport
            assert transport is not None
            ours = transport.get_extra_info("socket")
            unsent = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
            limits.append((unsent, len(transport.get_buffer(-1))))
    assert limits == [(65_536, 16_384)] * 2 + [(0, 262_144)] * 2


async def test_a_stranger_who_takes_nothing_fills_neither_process_nor_kernel(gateway: Running) -> None:
    async with await gateway.connect(receive_buffer=4096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's
        client.send(request(key=None) * 20_000)  # answers of 15 MB
        await eventually(lambda: bool(gateway.gateway.listeners.connections))
        (connection,) = gateway.gateway.listeners.connections.all()
        transport = connection.transport
        assert transport is not None
        await eventually(lambda: connection.out.is_paused and " paused " in repr(connection))
        (in_kernel,) = struct.unpack("i", fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4)))
        assert in_kernel < 150_000
        assert transport.get_write_buffer_size() < 35_000
