"""No client holds the loop for others, however it cuts what it sends: counted in chunks for each turn of the loop."""

import asyncio
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp.http_parser import RawRequestMessage

from gateway.admin.connection import AdminConnection
from gateway.aio import iteration
from gateway.aio.bounded_connector import BoundedHandler
from gateway.aio.iteration import Iteration
from gateway.aio.tls.openssl import RECORDS_AT_ONCE
from gateway.aio.tls.transport import RECORD, TlsTransport
from gateway.aio.turn import MAX_BYTES, MAX_CHUNKS, SLICE, SMALL
from gateway.aio.unwanted import AT_ONCE
from gateway.auth.jwks.fetch import FetchFailed, fetch_keys
from gateway.authorize.login import Login
from gateway.config.settings import JwtIssuer
from gateway.http import strict_json
from gateway.listener.connection import ClientConnection
from tests.support.backend import Backend, silent
from tests.support.forms import FORM_TYPE, UPLOADS, Upload, form
from tests.support.gateway import PLAIN, ROUTES, SUBMIT, Running, Start, chunks, request, submit
from tests.support.iteration import iteration_now
from tests.support.work import Work, counted_arrivals, counted_bytes, counted_chunks, counted_feeds, counted_turns

CODED = "Transfer-Encoding: chunked"
FORM = f"Content-Type: {FORM_TYPE}"
TINY = b"1\r\nx\r\n"
# A turn is over once it has had its chunks; it may find that out behind the slice that filled it.
MAX_OF_A_TURN = MAX_CHUNKS + SLICE // len(TINY)
READ = 262_144  # bytes that a loop reads at once


@pytest.mark.parametrize(
    "head",
    [
        request("POST", "/nothing", CODED, key=None),
        request("POST", PLAIN, CODED, key=None),
        request("POST", PLAIN, CODED),
        request("POST", SUBMIT, CODED, FORM),
        request("POST", "/api/v1/../marker", CODED),
    ],
    ids=["no-route", "no-key", "plain", "submit", "bad-target"],
)
async def test_a_body_in_chunks_of_one_byte_takes_its_turns(head: bytes, gateway: Running) -> None:
    async with counted_chunks() as work, await gateway.connect() as client:
        client.send(head + TINY * 100_000 + b"0\r\n\r\n")
        assert (await client.response()).status in {200, 400, 401, 404, 415}
        (event,) = await gateway.finished(1)
    assert work.most <= MAX_OF_A_TURN
    assert work.total or event["reason"] != "body_malformed"


@pytest.mark.parametrize("count", [4, 24])
async def test_many_together_hold_the_loop_no_longer(count: int, gateway: Running) -> None:
    each = 48_000 // count
    body = (b"40\r\n" + b"x" * 64 + b"\r\n") * each + b"0\r\n\r\n"

    async def send() -> int:
        async with await gateway.connect() as client:
            client.send(request("POST", PLAIN, CODED) + body)
            return (await client.response(within=100.0)).status  # asyncio's debug mode and coverage are slow

    async with counted_chunks() as work:
        assert await asyncio.gather(*(send() for _ in range(count))) == [200] * count
    assert work.total == count * (each + 1)
    assert work.most <= iteration.MAX_CHUNKS + count * (MAX_CHUNKS // SMALL + SLICE // 64)


KB = 1024


def cut(data: bytes, size: int) -> bytes:
    """A whole body in chunks of so many bytes."""
    return chunks(*(data[i : i + size] for i in range(0, len(data), size)))


@pytest.mark.parametrize("size", [1, 63])
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_long_body_of_crumbs_is_refused(sort: Upload, size: int, gateway: Running, backend: Backend) -> None:
    body = sort.body(b"x" * 400 * KB)
    async with counted_chunks() as work, await gateway.connect() as client:
        client.send(request("POST", sort.target, CODED, *sort.headers) + cut(body, size))
        (await client.response()).is_refusal(400, "body_malformed")
        await client.is_closed()
    (event,) = await gateway.finished(1)
    assert event["received"] < 160 * KB
    assert 0 < work.total < 160 * KB / (size + 5)
    await backend.settled()
    assert backend.requests == []


@pytest.mark.parametrize("size", [64, 300 * KB])
@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_long_body_in_chunks_of_some_size_is_forwarded(
    sort: Upload, size: int, gateway: Running, backend: Backend
) -> None:
    body = sort.body(b"x" * 1000 * KB)
    response = await gateway.ask(request("POST", sort.target, CODED, *sort.headers) + cut(body, size), b"POST")
    assert response.status == 200
    assert backend.requests[0].body == body


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_a_small_body_may_be_cut_into_single_bytes(sort: Upload, gateway: Running, backend: Backend) -> None:
    body = sort.body(b"x" * 10 * KB)
    response = await gateway.ask(request("POST", sort.target, CODED, *sort.headers) + cut(body, 1), b"POST")
    assert response.status == 200
    assert backend.requests[0].body == body


@pytest.mark.parametrize("line", [b"1;" + b"e" * 9000, b"1" + b";a=b" * 2000], ids=["one", "many"])
async def test_a_coding_that_says_more_than_it_carries_is_refused(line: bytes, gateway: Running) -> None:
    async with await gateway.connect() as client:
        client.send(request("POST", PLAIN, CODED) + (line + b"\r\nx\r\n") * 100 + b"0\r\n\r\n")
        (await client.response()).is_refusal(400, "body_malformed")
        await client.is_closed()


async def test_a_chunk_without_an_end_is_refused(gateway: Running) -> None:
    async with await gateway.connect() as client:
        client.send(request("POST", PLAIN, CODED) + b"1;" + b"e" * 1000 * KB)
        (await client.response()).is_refusal(400, "body_malformed")
        await client.is_closed()


@pytest.mark.parametrize(
    ("head", "status"),
    [(request("POST", "/nothing", CODED, key=None), 404), (request("POST", PLAIN, CODED, key=None), 401)],
    ids=["no-route", "no-key"],
)
async def test_a_refused_chunked_body_is_not_read(head: bytes, status: int, gateway: Running) -> None:
    async with counted_chunks() as work, await gateway.connect() as client:
        client.send(head + TINY * 100_000)
        assert (await client.response()).status == status
        await client.is_closed()
    assert work.total <= SLICE / len(TINY)


async def test_who_sends_a_refused_body_to_its_end_may_take_the_answer(gateway: Running) -> None:
    async with await gateway.connect() as client:
        transport: Any = client.writer.transport
        transport.pause_reading()  # else the client ends with our end
        client.send(request("POST", "/nothing", CODED, key=None))
        for _ in range(32):
            client.send(b"x" * 256 * KB)
            await client.writer.drain()
        transport.resume_reading()
        (await client.response()).is_refusal(404, "route_not_found")
        await client.is_closed()


@asynccontextmanager
async def counting_reads(protocol: type[Any], method: str, units: Callable[..., int]) -> AsyncIterator[Work]:
    """Counts what a protocol of connections that begin within this is given; loops look the method up once."""
    async with counted_turns() as work:
        with patch.object(protocol, method, work.counting(getattr(protocol, method), units)):
            yield work


async def test_what_comes_behind_a_refusal_is_dropped_in_turns(gateway: Running) -> None:
    """Though nobody decrypts it: libuv would read on, 8 MB at a time for each connection."""
    async with (
        counting_reads(TlsTransport, "buffer_updated", lambda _, size: size) as work,
        await gateway.connect() as client,
    ):
        transport: Any = client.writer.transport
        transport.pause_reading()
        client.send(request("POST", "/nothing", CODED, key=None))
        await until(lambda: bool(connections(gateway)))
        (connection,) = connections(gateway)
        await until(lambda: "closing" in repr(connection.transport))
        sent = os.write(client.writer.get_extra_info("socket").fileno(), bytes(4000 * KB))
        await until(lambda: work.total >= sent)
    assert sent > 1000 * KB
    assert work.most <= AT_ONCE


async def test_what_comes_behind_an_answer_of_the_admin_listener_is_dropped_in_turns(gateway: Running) -> None:
    head = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n{CODED}\r\n\r\n"
    async with counting_reads(AdminConnection, "data_received", lambda _, data: len(data)) as work:
        with closing(socket.create_connection(("127.0.0.1", gateway.admin_port))) as client:
            client.setblocking(False)
            client.send(head.encode() + TINY)
            assert (await asyncio.get_running_loop().sock_recv(client, 12)) == b"HTTP/1.1 200"
            sent = client.send(TINY * 400_000)
            await until(lambda: work.total >= sent)
    assert sent > 1000 * KB
    assert work.most <= READ


async def test_of_a_refused_body_one_megabyte_is_read(gateway: Running) -> None:
    async with counted_bytes() as work, await gateway.connect() as client:
        client.send(request("POST", "/nothing", "Content-Length: 50000000", key=None) + b"x" * 8000 * KB)
        (await client.response()).is_refusal(404, "route_not_found")
        await client.is_closed()
    assert 1000 * KB <= work.total <= 1024 * KB + 512 * KB
    assert work.most <= MAX_BYTES + 256 * KB


@pytest.mark.parametrize("framing", [CODED, "Content-Length: 5"])
async def test_who_has_no_key_sends_no_body_where_none_is_due(
    framing: str, gateway: Running, backend: Backend
) -> None:
    async with await gateway.connect() as client:
        client.send(request("GET", "/health_check", framing, key=None))
        (await client.response()).is_refusal(400, "bad_request")
    (event,) = await gateway.finished(1)
    assert event["reason"] == "bad_request"
    await backend.got_nothing()


@pytest.mark.parametrize("target", ["/admin/v1/keys", "/nothing", "/livez"])
async def test_no_body_holds_the_loop_by_the_admin_listener(target: str, gateway: Running) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{CODED}\r\n\r\n"
    async with counted_chunks() as work:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
        writer.write(head.encode() + TINY * 100_000)
        status = await reader.readline()
        writer.close()
    assert status.startswith(b"HTTP/1.1 4")
    assert work.most <= MAX_OF_A_TURN


async def test_while_a_turn_is_over_the_admin_listener_reads_no_more(gateway: Running) -> None:
    """Also where aiohttp resumes the socket, since a body was read: libuv would read on, 8 MB at a time."""
    head = f"POST /admin/v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{CODED}\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", gateway.admin_port))) as client:
        client.setblocking(False)
        client.send(head.encode() + TINY * 400_000)
        async with counted_arrivals() as work:
            assert (await asyncio.get_running_loop().sock_recv(client, 12)).startswith(b"HTTP/1.1 413")
    assert 0 < work.most <= READ


async def test_of_an_answer_without_end_no_more_is_read_than_it_may_have() -> None:
    """While its turn is over nothing is read, though aiohttp resumes the socket as the body is read; then it ends."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{CODED}\r\n\r\n".encode() + TINY * 400_000)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    counted = BoundedHandler.data_received
    async with counted_turns() as work, await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        issuer = JwtIssuer.model_validate({"issuer": "https://id.example", "audience": "gateway", "jwks": url})
        with (
            patch.object(BoundedHandler, "data_received", work.counting(counted, lambda _, data: len(data))),
            pytest.raises(FetchFailed, match="closed the connection or does not speak HTTP"),
        ):
            await fetch_keys(iteration_now(), issuer, 20.0)
    assert 0 < work.most <= READ
    assert work.total < 1_000_000


async def test_empty_lines_without_end_take_their_turns(gateway: Running) -> None:
    """Each two are the end of a head to whoever looks for one: the parser is given none of them."""
    async with counted_feeds() as work, await gateway.connect() as client:
        client.send(b"\r\n" * 1_000_000)
        (await client.response()).is_refusal(431, "headers_too_large")
        await gateway.finished(1)
    assert work.total <= 1


@pytest.mark.parametrize("sort", UPLOADS, ids=str)
async def test_records_of_one_byte_take_their_turns(sort: Upload, gateway: Running, backend: Backend) -> None:
    """TLS decrypts them before any of it is counted as a body."""
    body = sort.body(b"x" * 30_000)
    async with counted_turns() as work, await gateway.connect() as client:
        with patch.object(
            ClientConnection,
            "data_received",
            work.counting(ClientConnection.data_received, lambda _, data: len(data)),
        ):
            client.send(request("POST", sort.target, f"Content-Length: {len(body)}", *sort.headers))
            for place in range(len(body)):
                client.send(body[place : place + 1])
            assert (await client.response(b"POST")).status == 200
    assert backend.requests[0].body == body
    assert work.total >= len(body)
    assert work.most <= 1024 + MAX_CHUNKS // RECORD + RECORDS_AT_ONCE  # the head is one record


async def test_an_idle_connection_keeps_nothing_of_a_large_head(gateway: Running) -> None:
    async with await gateway.connect() as client:
        for sent in (request("GET", "/nope", *[f"X-{number}: {'canary' * 100}" for number in range(20)]),) * 2:
            assert (await client.ask(sent)).status == 404
        (connection,) = connections(gateway)
        await until(lambda: connection.awaits_first_byte)
        assert connection.cached_headers is None
        heads = [one for one in gc.get_objects() if isinstance(one, RawRequestMessage)]
        assert not [head for head in heads if "canary" in "".join(head.headers.values())]


def connections(gateway: Running) -> list[ClientConnection]:
    return gateway.gateway.listeners.connections.all()


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30.0):
        while not is_true():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def busy(gateway: Running) -> AsyncIterator[None]:
    """Lets the loop have no time for anybody, until the end of this."""
    of_all: Iteration = gateway.gateway.listeners.public.iteration
    await until(lambda: not of_all.is_scheduled)
    with (
        patch.object(Iteration, "is_over", property(lambda _: True)),
        patch.object(Iteration, "is_full", property(lambda _: True)),
        patch.object(Iteration, "_schedule", lambda _: None),
    ):
        yield
    of_all._schedule()


async def test_while_a_head_waits_for_the_loop_its_time_stands_still(gateway: Running) -> None:
    async with await gateway.connect() as client:
        client.send(b"GET /api/v1/marker/x HTTP/1.1\r\n")
        await until(lambda: any(not connection.awaits_first_byte for connection in connections(gateway)))
        (connection,) = connections(gateway)
        async with busy(gateway):
            client.send(request("GET", "/x").partition(b"\r\n")[2])
            await until(lambda: connection.waits_for_us)
            connection.sweep(asyncio.get_running_loop().time() + 1000.0)
        assert (await client.response()).status == 404


async def test_who_breaks_off_while_nothing_is_read_is_noticed(gateway: Running) -> None:
    client = await gateway.connect()
    await until(lambda: bool(connections(gateway)))
    (connection,) = connections(gateway)
    linger_not = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
    async with busy(gateway):
        client.send(request())
        await until(lambda: connection.waits_for_us)
        client.abort()
        await until(lambda: "closed" in repr(connection.transport))  # the sweep asks the kernel
        assert gateway.gateway.listeners.public.connections == 1  # its end waits: many may break off at once
    await until(lambda: not gateway.gateway.listeners.public.connections)


async def test_who_sends_ahead_and_leaves_is_noticed_before_the_answer(gateway: Running, backend: Backend) -> None:
    backend.script = silent
    client = await gateway.connect()
    client.send(request())
    await backend.connected()
    (connection,) = connections(gateway)
    client.send(request() * 1500)  # no more than the kernel takes for us: else its end is not sent either
    await until(lambda: " paused " in repr(connection))
    client.abort()
    await until(lambda: not gateway.gateway.listeners.public.connections)
    (event,) = await gateway.finished(1)
    assert event["reason"] == "client_gone"


async def test_connections_that_are_told_to_end_do_so_in_turns(gateway: Running) -> None:
    clients = [await gateway.connect() for _ in range(3)]
    for client in clients:
        assert (await client.ask(request("GET", "/nothing"))).status == 404
    idle, retired, revoked = connections(gateway)
    async with busy(gateway):
        idle.close_idle()
        retired.retire()
        revoked.revoke()
        revoked.end_revoked()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(connections(gateway)) == 3
    for client in clients:
        await client.is_closed()


async def test_requests_that_waited_for_the_same_go_on_in_turns(gateway: Running, backend: Backend) -> None:
    """The ledger writes for all who wait at once: their futures end at once."""
    written = asyncio.get_running_loop().create_future()
    waiting = list[None]()
    attempt = Login.attempt

    async def wait(login: Login, *given: Any) -> Any:
        waiting.append(None)
        await asyncio.shield(written)
        return await attempt(login, *given)

    with patch.object(Login, "attempt", wait):
        clients = [await gateway.connect() for _ in range(3)]
        for client in clients:
            client.send(request())
        await until(lambda: len(waiting) == len(clients))
        async with busy(gateway):
            written.set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)
            assert backend.requests == []
        for client in clients:
            assert (await client.response()).status == 200
            await client.close()


async def test_a_client_is_gone_though_that_waits_for_its_turn(gateway: Running) -> None:
    """A result that it did not take is not read: with delete_after_read it would be lost."""
    client = await gateway.connect()
    assert (await client.ask(request("GET", "/nothing"))).status == 404
    (connection,) = connections(gateway)
    async with busy(gateway):
        client.abort()
        await until(lambda: connection.is_gone)
        assert connection in connections(gateway)
        before = connection.traffic.sent
        connection.out.send(b"nobody hears it")
        assert connection.traffic.sent == before
    await until(lambda: connection not in connections(gateway))


async def test_a_connection_that_was_revoked_hears_nothing_before_its_turn_to_end(gateway: Running) -> None:
    async with await gateway.connect() as client:
        assert (await client.ask(request("GET", "/nothing"))).status == 404
        (connection,) = connections(gateway)
        connection.revoke()
        connection.data_received(request("GET", "/nothing"))
        await client.is_closed()
    assert len(gateway.requests) == 1


async def test_a_connection_ends_though_what_waited_at_that_moment_was_no_request(gateway: Running) -> None:
    async with await gateway.connect() as client:
        assert (await client.ask(request("GET", "/nothing"))).status == 404
        (connection,) = connections(gateway)
        async with busy(gateway):
            os.write(client.writer.get_extra_info("socket").fileno(), b"\x17\x03\x03")  # a record begins
            await until(lambda: connection.waits_for_us)
            connection.ends_at = 0.0
            await until(lambda: connection.is_retired)
        await client.is_closed()


async def test_a_connection_that_always_waits_ends_with_its_longest_life(gateway: Running) -> None:
    async with await gateway.connect() as client:
        assert (await client.ask(request("GET", "/nothing"))).status == 404
        (connection,) = connections(gateway)
        async with busy(gateway):
            client.send(request("GET", "/nothing"))
            await until(lambda: connection.waits_for_us)
            connection.ends_at = 0.0
            await until(lambda: connection.is_retired)
        assert (await client.response()).value(b"connection") == b"close"
        await client.is_closed()


LONG = b'{"request_id": "nobodys", "pad": [%b]}' % b",".join([b"1"] * 3000)
HOOK = {"name": "h", "secret": {"env": "KEY_CI"}, "forward_to": "http://127.0.0.1:9/", "accept_body_secret": True}
NAMING = {"name": "named", "methods": ["POST"], "path": "/named", "kind": "result", "access": "key",
          "id": {"in": "body", "name": "request_id"}}  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("POST", "/named", body=LONG), 404),
        (request("POST", "/gateway/v1/webhooks/h", key=None, body=LONG), 401),
        (submit(form(additional_config=LONG.decode())), 200),
    ],
)
async def test_a_body_that_is_judged_in_one_piece_waits_for_an_iteration_with_time(
    sent: bytes, status: int, start: Start
) -> None:
    gateway = await start(routes=[*ROUTES, NAMING], webhooks={"in": [HOOK]})
    of_all: Iteration = gateway.gateway.listeners.public.iteration
    time_for = ClientConnection.time_for
    ended, judged = list[int](), list[int]()

    def end(connection: ClientConnection, size: int) -> Coroutine[Any, Any, None]:
        of_all.add(iteration.MAX_SECONDS, 0)  # others have used it up
        ended.append(of_all.number)
        return time_for(connection, size)

    def judge(_: bytes) -> bool:
        judged.append(of_all.number)
        return False

    with patch.object(ClientConnection, "time_for", end), patch.object(strict_json, "has_too_many_marks", judge):
        assert (await gateway.ask(sent, b"POST")).status == status
    assert judged[0] > ended[0]
