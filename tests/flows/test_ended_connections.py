"""Whatever ends a connection, nothing of it waits for a garbage collection: failed handshakes left 53 KB each.

Memory is bounded by what strangers' connections hold, and a collection of what thousands left stops the loop. So here
the collector is off, and the objects of a connection have to be gone when its end was told.
"""

import asyncio
import gc
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
import trustme

from gateway.aio import shared_context
from gateway.aio.bounded_connector import BoundedConnector, make_session
from gateway.aio.tls.openssl import TlsEngine
from gateway.aio.tls.transport import TlsTransport
from gateway.errors import UpstreamFailed
from gateway.listener.accept import AcceptLimits, Acceptor
from gateway.listener.opening import Opening, OpeningParts
from gateway.model.identity import Peer
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Upstreams
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget
from tests.support.iteration import buffers_now, iteration_now
from tests.support.pure import ip
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio

KINDS = (Opening, TlsTransport, TlsEngine, UpstreamConnection)
GARBAGE = b"\x17\x03\x03\x00\x14" + b"a" * 20  # a record that nobody can decrypt
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"
GET = b"GET / HTTP/1.1\r\n\r\n"


@contextmanager
def nothing_left() -> Iterator[None]:
    """Without the collector."""
    gc.collect()
    gc.freeze()  # what earlier tests of this process have left, half a million objects, is looked at once
    gc.disable()
    try:
        before = count()
        yield
        assert count() - before == Counter()
    finally:
        gc.enable()


def count() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in KINDS)


class Above:
    """A protocol on an accepted connection; it does what a client says: `c` closes, `a` aborts, `w` writes much."""

    def __init__(self, peer: Peer, ended: Callable[["Above"], None]) -> None:
        self.peer, self.has_ended = peer, False
        self._ended = ended
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(b"hello")

    def data_received(self, data: bytes) -> None:
        if data == b"c":
            self._transport.close()
        elif data == b"a":
            self._transport.abort()
        elif data == b"w":
            for _ in range(200):
                self._transport.write(bytes(65_536))
        elif data == b"f":
            with patch.object(TlsEngine, "seal", side_effect=ssl.SSLError(1, "no")):
                self._transport.write(b"x")

    def connection_lost(self, _: BaseException | None) -> None:
        self._transport = None
        self._ended(self)

    def pause_writing(self) -> None:
        """It goes on."""

    def resume_writing(self) -> None:
        """It went on."""


# Clients, in threads


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def drain(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(65_536):
            pass
    sock.close()


def says_no_more(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    drain(sock)


def hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def says(data: bytes, end: Callable[[socket.socket], None], sock: socket.socket, context: ssl.SSLContext) -> None:
    del context
    if data:
        sock.sendall(data)
    end(sock)


def breaks_off(end: Callable[[socket.socket], None], sock: socket.socket, context: ssl.SSLContext) -> None:
    sock.sendall(hello(context))
    sock.recv(1)
    end(sock)


def shakes_badly(data: bytes, sock: socket.socket, context: ssl.SSLContext) -> None:
    sock.sendall(hello(context))
    sock.recv(65_536)
    sock.sendall(data)
    drain(sock)


def handshakes(
    said: bytes, end: Callable[[ssl.SSLSocket], None], sock: socket.socket, context: ssl.SSLContext
) -> None:
    with sock, context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as encrypted:
        encrypted.settimeout(20)
        encrypted.recv(5)
        if said:
            encrypted.sendall(said)
        end(encrypted)


def says_goodbye(sock: ssl.SSLSocket) -> None:
    with suppress(OSError):
        sock.unwrap()
    sock.close()


def sends_garbage(sock: ssl.SSLSocket) -> None:
    bare = socket.socket(fileno=sock.detach())
    bare.sendall(GARBAGE)
    drain(bare)


CLIENTS: dict[str, Callable[[socket.socket, ssl.SSLContext], None]] = {
    "silent-end": partial(says, b"", socket.socket.close),
    "silent-reset": partial(says, b"", reset),
    "silent-late": partial(says, b"", drain),
    "http": partial(says, GET, drain),
    "zeros": partial(says, bytes(40), drain),
    "ssl2": partial(says, b"\x80\x2e\x01\x03\x03" + bytes(60), drain),
    "half-end": partial(says, b"\x16\x03\x01\x02", says_no_more),
    "half-reset": partial(says, b"\x16\x03\x01\x02", reset),
    "half-late": partial(says, b"\x16\x03\x01\x02", drain),
    "hello-end": partial(breaks_off, socket.socket.close),
    "hello-reset": partial(breaks_off, reset),
    "hello-late": partial(breaks_off, drain),
    "handshake-garbage": partial(shakes_badly, GARBAGE),
    "handshake-alert": partial(shakes_badly, ALERT),
    "closes": partial(handshakes, b"", ssl.SSLSocket.close),
    "says-goodbye": partial(handshakes, b"", says_goodbye),
    "resets": partial(handshakes, b"", reset),
    "is-closed": partial(handshakes, b"c", drain),
    "is-aborted": partial(handshakes, b"a", drain),
    "resets-what-is-written": partial(handshakes, b"w", reset),
    "can-not-be-written-to": partial(handshakes, b"f", drain),
    "garbage": partial(handshakes, b"", sends_garbage),
}


async def serve(
    certificates: Path, client: Callable[[int], None], *, trusts: Path | None = None, within: float = 5.0
) -> None:
    """Accepts one client, and lasts until it is gone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    if trusts is not None:
        context.load_verify_locations(trusts)
        context.verify_mode = ssl.CERT_OPTIONAL
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    acceptor: Acceptor = Acceptor(
        listening,
        lambda: AcceptLimits(9, 9, within),
        lambda: context,
        lambda peer: Above(peer, acceptor.release),
        iteration_now(),
    )
    acceptor.start()
    try:
        await asyncio.to_thread(client, listening.getsockname()[1])
        await eventually(lambda: not acceptor.connections)
        await asyncio.sleep(0.01)
    finally:
        await acceptor.stop()
        await acceptor.close()


def connecting(act: Callable[[socket.socket, ssl.SSLContext], None], context: ssl.SSLContext, port: int) -> None:
    sock = socket.create_connection(("127.0.0.1", port), 20)
    with suppress(OSError):
        act(sock, context)
    sock.close()


def client_context(certificates: Path, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("way", CLIENTS)
async def test_of_a_clients_connection_nothing_is_left(certificates: Path, way: str, version: ssl.TLSVersion) -> None:
    client = partial(connecting, CLIENTS[way], client_context(certificates, version=version))
    within = 0.2 if "late" in way else 5.0
    await serve(certificates, client, within=within)  # what is made once
    with nothing_left():
        await serve(certificates, client, within=within)


async def test_nothing_is_left_of_a_client_that_takes_us_for_a_stranger(certificates: Path) -> None:
    client = partial(connecting, CLIENTS["closes"], ssl.create_default_context())
    with nothing_left():
        await serve(certificates, client)


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_nothing_is_left_of_a_client_with_a_certificate(
    certificates: Path, tmp_path: Path, is_trusted: bool
) -> None:
    authority = trustme.CA()
    authority.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    context = client_context(certificates)
    context.load_cert_chain(tmp_path / "client.pem")
    with nothing_left():
        client = partial(connecting, CLIENTS["says-goodbye"], context)
        await serve(certificates, client, trusts=tmp_path / "ca.pem")


async def test_who_is_late_while_a_thread_reads_is_freed_before_the_thread_ends(certificates: Path) -> None:
    may_end, advance_handshake = threading.Event(), TlsEngine.advance_handshake

    def long(engine: TlsEngine) -> bool:
        may_end.wait(60.0)
        return advance_handshake(engine)

    client = partial(
        connecting, partial(says, hello(client_context(certificates)), drain), client_context(certificates)
    )
    with (
        nothing_left(),
        patch.object(TlsEngine, "is_heavy", new=True),
        patch.object(TlsEngine, "advance_handshake", long),
    ):
        before = count()
        await serve(certificates, client, within=0.2)
        assert not may_end.is_set()
        assert count() - before == Counter({"TlsEngine": 1})
        may_end.set()
        await eventually(lambda: count() - before == Counter())


@pytest.mark.parametrize("end", [Opening.cancel, Opening.give_way], ids=["cancelled", "gave-way"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["silent", "handshake"])
@pytest.mark.parametrize("steps", [1, 2, 3, 9])  # also while the loop attaches it
async def test_nothing_is_left_of_an_opening_that_was_ended(
    certificates: Path, end: Callable[[Opening], None], said: bytes, steps: int
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    over = list[bool]()
    parts = OpeningParts(
        iteration_now(),
        buffers_now(),
        lambda: context,
        partial(Above, ended=_nobody_asks),
        _stays,
    )

    async def once() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        with listening, socket.create_connection(listening.getsockname()) as far:
            accepted, (host, port) = listening.accept()
            accepted.setblocking(False)
            far.sendall(said)
            opening = Opening(accepted, Peer(ip(host), port), parts, lambda *_: over.append(True))
            opening.begin(asyncio.get_running_loop().time() + 5.0, reads_proxy_header=False)
            for _ in range(steps):
                await asyncio.sleep(0)
            end(opening)
            del opening
            await eventually(lambda: bool(over))
            accepted.close()
        await asyncio.sleep(0.01)

    with nothing_left():
        await once()


def _nobody_asks(_: Above) -> None:
    """Its end."""


def _stays(peer: Peer, _: object) -> Peer:
    return peer


# Servers, in threads


def answers(end: Callable[[ssl.SSLSocket], None], sock: socket.socket, context: ssl.SSLContext) -> None:
    with sock, context.wrap_socket(sock, server_side=True) as encrypted:
        encrypted.settimeout(20)
        encrypted.recv(65_536)
        encrypted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        end(encrypted)


def hears(data: bytes, end: Callable[[socket.socket], None], sock: socket.socket, _: ssl.SSLContext) -> None:
    sock.recv(65_536)
    if data:
        sock.sendall(data)
    end(sock)


def is_whole(sock: ssl.SSLSocket) -> None:
    sock.sendall(b"whole")
    drain(sock)


SERVERS: dict[str, Callable[[socket.socket, ssl.SSLContext], None]] = {
    "garbage": partial(hears, GARBAGE, drain),
    "http": partial(hears, b"HTTP/1.1 200 OK\r\n\r\n", drain),
    "alert": partial(hears, ALERT, drain),
    "end": partial(hears, b"", socket.socket.close),
    "reset": partial(hears, b"", reset),
    "late": partial(hears, b"", drain),
    "whole": partial(answers, is_whole),
    "half": partial(answers, ssl.SSLSocket.close),
    "half-goodbye": partial(answers, says_goodbye),
    "half-reset": partial(answers, reset),
    "half-garbage": partial(answers, sends_garbage),
    "half-late": partial(answers, drain),
}


def accepting(
    listening: socket.socket, act: Callable[[socket.socket, ssl.SSLContext], None], context: ssl.SSLContext
) -> None:
    listening.settimeout(20)
    with suppress(OSError):
        sock, _ = listening.accept()
        sock.settimeout(20)
        act(sock, context)


class _Sink:
    """Drops what it gets."""

    def begin(self, _: ResponseHead) -> None:
        """It may begin."""

    def take(self, _: bytes) -> None:
        """Nobody looks."""

    async def end(self) -> None:
        """It ended."""


async def ask_upstream(port: int, context: ssl.SSLContext) -> None:
    """As the gateway asks for a job's state."""
    loop = asyncio.get_running_loop()
    target = UpstreamTarget("https", "localhost", port, f"localhost:{port}", 0.5, 1.0, 1.0, "/", 3.0)
    upstreams = Upstreams(loop, iteration_now())
    client, ended = UpstreamClient(upstreams, loop.time, lambda: "id"), asyncio.Event()

    def done(_: ResponseHead | UpstreamFailed) -> None:
        ended.set()

    with patch.object(shared_context, "bounded_context", lambda: context):
        client.run(target, UpstreamCall("GET", "/"), _Sink(), 0.5, done)
        await ended.wait()
    upstreams.close()
    await asyncio.sleep(0.05)


async def ask_receiver(port: int, context: ssl.SSLContext) -> None:
    """As the gateway asks webhooks' receivers and providers of keys."""
    connector = BoundedConnector(iteration_now(), None, force_close=True, ssl=context)
    async with make_session(connector) as session:
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(0.5), session.get(f"https://localhost:{port}/") as response:
                await response.read()
    await asyncio.sleep(0.05)


CASES = [
    pytest.param(way, trusts, ask, id=f"{way}-{'trusted' if trusts else 'stranger'}-{ask.__name__}")
    for way in (*SERVERS, "nobody")
    for trusts in (True, False)
    for ask in (ask_upstream, ask_receiver)
    # aiohttp's reader of a body keeps the error of a half one, which keeps the reader.
    if not (way.startswith("half") and trusts and ask is ask_receiver)
]


@pytest.mark.parametrize(("way", "trusts", "ask"), CASES)
async def test_of_a_connection_to_a_server_nothing_is_left(
    certificates: Path, way: str, trusts: bool, ask: Callable[[int, ssl.SSLContext], Any]
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    client = client_context(certificates) if trusts else ssl.create_default_context()

    async def once() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            if way == "nobody":
                listening.close()
                await ask(port, client)
                return
            serving = asyncio.ensure_future(asyncio.to_thread(accepting, listening, SERVERS[way], server))
            await ask(port, client)
            await serving
        await asyncio.sleep(0.01)

    await once()  # what is made once
    with nothing_left():
        await once()
