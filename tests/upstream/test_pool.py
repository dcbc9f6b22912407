import asyncio
import gc
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import uvloop

from gateway.aio.bounded_connector import bounded_context
from gateway.aio.drive import Drive
from gateway.aio.host_addresses import HostAddress, find_addresses
from gateway.aio.host_lookups import HostLookups
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import PAUSE
from gateway.aio.tls.handshake import Handshake
from gateway.aio.tls.transport import TlsTransport
from gateway.errors import ClientGone, UpstreamUnreachable
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool, Upstreams
from gateway.upstream.target import UpstreamTarget
from tests.support.addrlists import AddressList
from tests.support.iteration import iteration_now


def pool_of(port: int) -> Pool:
    target = UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 10.0, 1.0, 1.0, "/", 3.0)
    return Pool(target, asyncio.get_running_loop(), iteration_now())


class Answering(asyncio.Protocol):
    """Answers whatever comes, and stays."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def test_it_shows_what_is_open_and_what_is_idle() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = pool_of(port)
    assert repr(pool) == f"<Pool 127.0.0.1:{port} open=0 idle=0>"
    connection = await pool.connect()
    assert repr(pool) == f"<Pool 127.0.0.1:{port} open=1 idle=0>"
    connection.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, bodiless=False)
    async with asyncio.timeout(10):
        while not connection.is_reusable:  # noqa: ASYNC110 -- nobody tells of it but a Drive
            await asyncio.sleep(0)
    pool.give_back(connection, 0.0)
    assert repr(pool) == f"<Pool 127.0.0.1:{port} open=1 idle=1>"
    pool.close()
    async with asyncio.timeout(10):
        while len(pool):  # noqa: ASYNC110 -- the loop closes it a few iterations later
            await asyncio.sleep(0)
    assert repr(pool) == f"<Pool 127.0.0.1:{port} open=0 idle=0 retired>"
    server.close()


async def idle_ones(pool: Pool, count: int) -> list[UpstreamConnection]:
    connections = [await pool.connect() for _ in range(count)]
    for connection in connections:
        connection.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, bodiless=False)
    async with asyncio.timeout(10):
        while not all(connection.is_reusable for connection in connections):  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0)
    for connection in connections:
        pool.give_back(connection, 0.0)
    return connections


def ending(connections: list[UpstreamConnection]) -> int:
    transports = [connection.transport for connection in connections]
    return sum(transport is None or transport.is_closing() for transport in transports)


@pytest.mark.parametrize("way", ["expired", "retired", "taken"])
async def test_hundreds_of_idle_connections_end_a_few_at_a_time(way: str) -> None:
    """512 in one turn of the loop held all requests for 20 ms."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    pool = pool_of(server.sockets[0].getsockname()[1])
    connections = await idle_ones(pool, 100)
    if way == "retired":
        pool.retire()
    elif way == "expired":
        pool.close_expired(3.0)
    else:
        assert pool.take_idle(3.0) is None
    assert ending(connections) == 32
    before, portions = 32, [32]
    async with asyncio.timeout(10):
        while before < 100:
            if way == "taken":
                assert pool.take_idle(3.0) is None
            await asyncio.sleep(0)
            portions.append(ending(connections) - before)
            before = ending(connections)
    assert max(portions) == 32
    async with asyncio.timeout(10):
        while len(pool):  # noqa: ASYNC110 -- the loop closes it a few iterations later
            await asyncio.sleep(0)
    server.close()


@pytest.mark.parametrize("way", ["expired", "dropped"])
async def test_an_end_of_all_leaves_none_behind_whose_turn_is_to_come(way: str) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 10.0, 1.0, 1.0, "/", 3.0)
    upstreams = Upstreams(asyncio.get_running_loop(), iteration_now())
    connections = await idle_ones(upstreams.pool_of(target), 70)
    if way == "expired":
        upstreams.close_expired(3.0)
    else:
        upstreams.keep_only(frozenset())
    upstreams.close()
    assert ending(connections) == 70
    server.close()


@pytest.mark.parametrize("way", ["opened before the end", "opened after it"])
async def test_a_connection_that_is_opened_while_its_pool_is_dropped_ends_with_all(way: str) -> None:
    """Its pool had none that was open, and was forgotten before it had this one."""
    loop, lost, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    class Upstream(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            lost.set()

    def slow(_: str) -> tuple[HostAddress, ...]:
        go.wait(30)
        return (HostAddress(socket.AF_INET, "127.0.0.1"),)

    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with patch("gateway.upstream.pool.new_lookups", return_value=HostLookups(slow)):
        upstreams = Upstreams(loop, iteration_now())
    target = UpstreamTarget("http", "slow.test", port, f"slow.test:{port}", 5.0, 1.0, 1.0, "/", 3.0)
    pool = upstreams.pool_of(target)
    opening = asyncio.ensure_future(pool.connect())
    await asyncio.sleep(0)
    upstreams.keep_only(frozenset())
    upstreams.close_expired(loop.time())
    if way == "opened after it":
        upstreams.close()
        go.set()
        await opening
    else:
        go.set()
        await opening
        upstreams.close_expired(loop.time())
        upstreams.close()
    async with asyncio.timeout(10):
        await lost.wait()
        while not pool.is_over:  # noqa: ASYNC110 -- the loop closes it a few iterations later
            await asyncio.sleep(0)
    server.close()


async def test_handshakes_with_one_container_do_not_wait_for_each_other(certificates: Path) -> None:
    """Each step of one waited for the steps of all that had begun before, and for a turn of the loop."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    trusting = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    target = UpstreamTarget("https", "localhost", port, f"localhost:{port}", 10.0, 1.0, 1.0, "/", 3.0)
    together, firsts, go_on = threading.Barrier(3, timeout=5.0), iter(range(3)), Handshake.run

    def run(handshake: Handshake) -> None:
        if next(firsts, None) is not None:
            together.wait()
        go_on(handshake)

    with (
        patch("gateway.aio.shared_context.bounded_context", return_value=trusting),
        patch.object(Handshake, "run", run),
    ):
        pool = Pool(target, loop, iteration_now())
        await asyncio.gather(*(pool.connect() for _ in range(3)))
    assert len(pool) == 3
    pool.close()
    server.close()


async def test_the_context_of_an_https_container_is_made_once_and_not_on_the_loop() -> None:
    """It reads all CAs: the first request to a container held everything for 50 ms."""
    made: list[int] = []

    def make() -> ssl.SSLContext:
        made.append(threading.get_ident())
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = UpstreamTarget("https", "127.0.0.1", port, f"127.0.0.1:{port}", 10.0, 1.0, 1.0, "/", 3.0)
    with patch("gateway.aio.shared_context.bounded_context", make):
        pool = Pool(target, loop, iteration_now())
        outcomes = await asyncio.gather(*(pool.connect() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamUnreachable] * 3  # the server speaks no TLS
    assert len(made) == 1
    assert made[0] != threading.get_ident()
    server.close()


async def test_containers_share_a_context_that_follows_the_systems_cas(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each made one, once: a container whose CA came later was refused until a restart."""
    file, now = tmp_path / "ca.pem", [1000.0]
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    upstreams = Upstreams(loop, Iteration(lambda: now[0], loop.call_soon))
    targets = [UpstreamTarget("https", "localhost", port, name, 10.0, 1.0, 1.0, "/", 3.0) for name in ("a:1", "b:1")]
    with patch("gateway.aio.shared_context.bounded_context", wraps=bounded_context) as made:
        for target in targets:
            with pytest.raises(UpstreamUnreachable):
                await upstreams.pool_of(target).connect()
        assert made.call_count == 1
        shutil.copy(certificates / "ca.pem", file)
        now[0] += PAUSE
        for target in targets:
            assert (await upstreams.pool_of(target).connect()).transport is not None
        assert made.call_count == 2
    upstreams.close()
    server.close()


async def test_where_the_systems_cas_can_not_be_read_no_container_is_reached() -> None:
    loop = asyncio.get_running_loop()
    pool = Pool(UpstreamTarget("https", "127.0.0.1", 1, "h:1", 1.0, 1.0, 1.0, "/", 3.0), loop, iteration_now())
    with (
        patch("gateway.aio.shared_context.bounded_context", side_effect=OSError),
        pytest.raises(UpstreamUnreachable, match="verified"),
    ):
        await pool.connect()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_silent_name_server_keeps_nobody_from_other_containers(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop looks names up two (uvloop) or a few at a time; one that nobody answers held its place for 10 s."""
    go = threading.Event()
    asked: list[str] = []

    def slow(host: str, most: int, flags: int) -> tuple[HostAddress, ...]:
        asked.append(host)
        if host.startswith("silent"):
            go.wait(30)
        return find_addresses("127.0.0.1" if host.endswith(".test") else host, most, flags)

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        upstreams = Upstreams(loop, iteration_now())

        def pool_at(host: str) -> Pool:
            return upstreams.pool_of(UpstreamTarget("http", host, port, f"{host}:{port}", 5.0, 1.0, 1.0, "/", 3.0))

        silent = [asyncio.ensure_future(pool_at(f"silent{n % 8}.test").connect()) for n in range(40)]
        await asyncio.sleep(0.1)
        connection = await pool_at("found.test").connect()
        assert connection.transport is not None
        assert sorted(asked) == ["found.test", *(f"silent{n}.test" for n in range(8))]
        go.set()
        assert all(connection.transport is not None for connection in await asyncio.gather(*silent))
        upstreams.close()
        server.close()

    monkeypatch.setattr("gateway.aio.host_lookups.find_addresses", slow)
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(connect())
    finally:
        go.set()


async def test_the_addresses_of_a_container_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = UpstreamTarget("http", "container.test", port, f"container.test:{port}", 1.0, 1.0, 1.0, "/", 3.0)
    pool = Pool(target, asyncio.get_running_loop(), iteration_now())

    def found(*addresses: str) -> None:
        monkeypatch.setattr("gateway.aio.host_lookups.find_addresses", AddressList(*addresses).find)

    found("127.0.0.2", "127.0.0.1")
    connection = await pool.connect()
    assert connection.transport is not None
    assert connection.transport.get_extra_info("peername") == ("127.0.0.1", port)
    found("127.0.0.2", "127.0.0.3")
    with pytest.raises(UpstreamUnreachable):
        await pool.connect()
    pool.close()
    server.close()


async def test_a_connection_that_is_lost_before_it_is_told_of_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    pool, connect = pool_of(server.sockets[0].getsockname()[1]), loop.create_connection

    async def losing(*args: Any) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        made = await connect(*args)
        made[0].abort()
        for _ in range(3):
            await asyncio.sleep(0)
        return made

    monkeypatch.setattr(loop, "create_connection", losing)
    assert (await pool.connect()).transport is None
    assert len(pool) == 0
    server.close()


async def test_a_client_that_leaves_as_its_connection_is_made_leaves_none_behind() -> None:
    """The task that connects is done, its callback is not yet called: the result would belong to nobody."""
    ended = asyncio.Event()
    lost = asyncio.Event()

    class Upstream(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            lost.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = pool_of(port)
    errors: list[BaseException | None] = []

    async def ask() -> None:
        await pool.connect()

    def told(error: BaseException | None) -> None:
        errors.append(error)
        ended.set()

    drive = Drive(ask(), told)
    drive.step()
    while not len(pool):  # noqa: ASYNC110 -- the very turn is what is tested
        await asyncio.sleep(0)
    drive.interrupt(ClientGone("left"))
    async with asyncio.timeout(10):
        await ended.wait()
        await lost.wait()
        while len(pool):  # noqa: ASYNC110 -- likewise
            await asyncio.sleep(0)
    assert isinstance(errors[0], ClientGone)
    server.close()
    await server.wait_closed()


async def test_what_only_the_kernel_knows_of_keeps_a_connection_from_another_request() -> None:
    """An answer that nobody asked for came, and the loop has not read it yet: the next request must not get it."""
    theirs: list[asyncio.WriteTransport] = []

    class Upstream(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            theirs.append(transport)  # type: ignore[arg-type] # a stream's

        def data_received(self, _: bytes) -> None:
            theirs[-1].write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 1.0, 1.0, 1.0, "/", 60.0)
    pool = Pool(target, loop, iteration_now())
    for surplus in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSTOLEN"):
        connection = pool.take_idle(0.0) or await pool.connect()
        connection.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, bodiless=False)
        while not connection.is_reusable:  # noqa: ASYNC110 -- what tells of it wakes no task
            await asyncio.sleep(0)
        pool.give_back(connection, 0.0)
        theirs[-1].write(surplus)  # the kernel has it at once
        found = pool.take_idle(0.0)
        assert found is (None if surplus else connection)
        if found is not None:
            pool.give_back(found, 0.0)
    pool.retire()
    server.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_who_leaves_in_the_iteration_that_connects_leaves_nothing_to_a_collection(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop drops a transport whose connecting is cancelled, and does not tell its protocol of the end."""
    protocol = UpstreamConnection if scheme == "http" else TlsTransport
    drives: list[Drive] = []
    errors: list[BaseException | None] = []

    async def leave(pool: Pool) -> None:
        async def ask() -> None:
            await pool.connect()

        drives.append(Drive(ask(), errors.append))
        before = len(errors)
        drives[0].step()
        async with asyncio.timeout(10):
            while len(errors) == before:  # noqa: ASYNC110 -- the first one waits for its TLS context
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        drives.clear()

    async def leave_twice() -> list[object]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        target = UpstreamTarget(scheme, "127.0.0.1", port, f"127.0.0.1:{port}", 10.0, 1.0, 1.0, "/", 3.0)
        pool, made = Pool(target, loop, iteration_now()), protocol.connection_made

        def connection_made(self: Any, transport: asyncio.BaseTransport) -> None:
            made(self, transport)
            loop.call_soon(drives[0].interrupt, ClientGone("left"))

        monkeypatch.setattr(protocol, "connection_made", connection_made)
        await leave(pool)  # what is made once
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await leave(pool)
            gc.collect()
            ours = ("gateway.upstream", "gateway.aio", "uvloop")  # other tests of this process leave other things
            return [one for one in gc.garbage if type(one).__module__.startswith(ours)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            assert len(pool) == 0
            server.close()

    assert uvloop.run(leave_twice()) == []
    assert [type(error) for error in errors] == [ClientGone, ClientGone]


def waiting_ports(ours: int, theirs: int) -> int:
    """How many connections between these ports are over, and kept by the kernel (TIME_WAIT)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = f":{ours:04X}", f":{theirs:04X}"
    return sum((row[1][-5:], row[2][-5:]) == ends and row[3] == "06" for row in rows)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("method", "answer", "body", "kept"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 9", b"", 0),
        (b"GET", b"204 No Content", b"", 0),
        (b"GET", b"304 Not Modified", b"", 0),
        (b"GET", b"200 OK\r\nConnection: close\r\nContent-Length: 0", b"", 0),
        (b"POST", b"204 No Content", b"sent", 1),  # it may not have read the body yet
    ],
)
def test_what_is_over_for_both_keeps_no_port(
    loop: Callable[[], asyncio.AbstractEventLoop], method: bytes, answer: bytes, body: bytes, kept: int
) -> None:
    class Upstream(Answering):
        def data_received(self, _: bytes) -> None:
            self._transport.write(b"HTTP/1.1 " + answer + b"\r\n\r\n")

    async def exchange() -> int:
        ended = asyncio.Event()
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = pool_of(port)
        connection = await pool.connect()
        assert connection.transport is not None
        ours = connection.transport.get_extra_info("sockname")[1]
        head = method + b" / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.ask(head, len(body), bodiless=method == b"HEAD")
        connection.send(body)
        connection.send_end()

        async def answered() -> None:
            await connection.finished

        Drive(answered(), lambda _: ended.set()).step()
        async with asyncio.timeout(10):
            await ended.wait()
            pool.give_back(connection, 0.0)
            while len(pool):  # noqa: ASYNC110 -- the loop closes it a few iterations later
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # the other side closes, too
        server.close()
        return waiting_ports(ours, port)

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(exchange()) == kept
