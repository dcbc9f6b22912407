"""opening.py over real sockets: what is spent on a connection waits for its turn, and it has its time."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from gateway.aio.iteration import Iteration
from gateway.listener.opening import GaveWayError, Opening, OpeningParts, OpeningState, SilentError
from gateway.listener.proxy_protocol import DeclaredClient, ProxyHeaderError
from gateway.model.identity import Peer
from tests.support.iteration import buffers_now
from tests.support.loop import steps
from tests.support.pure import ip
from tests.support.waiting import eventually

PEER, DECLARED = Peer(ip("10.0.0.1"), 1), Peer(ip("192.0.2.1"), 56324)
V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"


class Connection(asyncio.Protocol):
    """What is made of a peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.has_ended = peer, False

    def connection_lost(self, error: BaseException | None) -> None:
        """Nobody asks."""


class Listener:
    """Opens connections: `made` were made, `over` are over, each with its error."""

    def __init__(self, certificates: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        loop = asyncio.get_running_loop()
        self.iteration = Iteration(lambda: 0.0, loop.call_soon)
        self.made: list[Peer] = []
        self.over: list[BaseException | None] = []
        self.far: list[socket.socket] = []
        self.openings: list[Opening] = []
        self.parts = OpeningParts(self.iteration, buffers_now(), lambda: self.context, self._make, self._move)

    def open(self, within: float = 60.0, *, says: bytes = b"", reads_proxy_header: bool = False) -> Opening:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.far.append(theirs)
        if says:
            theirs.sendall(says)
        # What is asked of TCP alone is not asked of a pair.
        accepted = _Tcp(ours.family, ours.type, fileno=ours.detach())
        opening = Opening(accepted, PEER, self.parts, partial(self._over, accepted))
        self.openings.append(opening)
        ends = asyncio.get_running_loop().time() + within
        opening.begin(ends, reads_proxy_header=reads_proxy_header)
        return opening

    def _make(self, peer: Peer) -> Connection:
        self.made.append(peer)
        return Connection(peer)

    def _move(self, peer: Peer, origin: DeclaredClient) -> Peer:
        assert peer == PEER
        return Peer(origin.ip, origin.port)

    def _over(self, accepted: socket.socket, opening: Opening, error: BaseException | None) -> None:
        assert opening.state is OpeningState.OVER
        self.over.append(error)
        accepted.close()


class _Tcp(socket.socket):
    def setsockopt(self, *_: object) -> None:
        """It has no TCP_NODELAY."""


@pytest.fixture
async def listener(certificates: Path) -> AsyncIterator[Listener]:
    listening = Listener(certificates)
    yield listening
    for opening in listening.openings:
        opening.cancel()
    for far in listening.far:
        far.close()


@pytest.mark.parametrize("is_there", [True, False], ids=["before", "later"])
async def test_nothing_is_made_before_a_turn_has_time_for_it(listener: Listener, is_there: bool) -> None:
    listener.iteration.add(1.0, 0)
    opening = listener.open(says=b"\x16" if is_there else b"")
    assert (listener.made, repr(opening)) == ([], "<Opening 10.0.0.1 silent>")
    if not is_there:
        await steps(3)
        listener.iteration.add(1.0, 0)
        listener.far[0].send(b"\x16")
    await eventually(lambda: listener.made == [PEER])
    await eventually(lambda: repr(opening) == "<Opening 10.0.0.1 handshake>")
    opening.cancel()
    assert isinstance(listener.over[0], asyncio.CancelledError)


async def test_who_waits_for_a_first_turn_can_be_cancelled(listener: Listener) -> None:
    listener.iteration.add(1.0, 0)
    opening = listener.open(says=b"\x16")
    opening.cancel()
    assert isinstance(listener.over[0], asyncio.CancelledError)
    await steps(5)
    assert (listener.made, len(listener.over), repr(opening)) == ([], 1, "<Opening 10.0.0.1 over>")


@pytest.mark.parametrize("has_tls", [True, False])
@pytest.mark.parametrize("end", [Opening.cancel, Opening.give_way])
async def test_none_is_ended_while_the_loop_attaches_it(
    listener: Listener, has_tls: bool, end: Callable[[Opening], None]
) -> None:
    """uvloop would end the process."""
    if not has_tls:
        listener.parts = listener.parts._replace(tls=None)
    opening = listener.open(says=b"\x16")
    assert repr(opening) == "<Opening 10.0.0.1 attached>"
    assert not opening.gives_way
    end(opening)
    assert listener.over == []
    await eventually(lambda: bool(listener.over))
    assert [type(error) for error in listener.over] in ([asyncio.CancelledError], [GaveWayError])
    with suppress(ConnectionResetError):
        assert await asyncio.get_running_loop().sock_recv(listener.far[0], 99) == b""


async def test_who_is_in_the_handshake_gives_way_at_once(listener: Listener) -> None:
    opening = listener.open(says=b"\x16")
    await eventually(lambda: opening.state is OpeningState.HANDSHAKE)
    may = [opening.gives_way]
    opening.give_way()
    assert [type(error) for error in listener.over] == [GaveWayError]
    may.append(opening.gives_way)
    opening.give_way()
    assert (may, len(listener.over)) == ([True, False], 1)


async def test_of_many_that_speak_at_once_each_iteration_serves_some(listener: Listener) -> None:
    for _ in range(40):
        listener.open()
    began: list[int] = []
    ticks = [0.0]
    listener.iteration.clock = lambda: ticks[0]  # each connection takes a millisecond

    def make(peer: Peer) -> Connection:
        ticks[0] += 0.001
        began.append(listener.iteration.number)
        return Connection(peer)

    listener.parts = listener.parts._replace(make=make)
    for _ in range(40):
        listener.open(says=b"\x16")
    await eventually(lambda: len(began) == 40)
    assert max(map(began.count, began)) <= 6


@pytest.mark.parametrize("end", [lambda far: far.close(), lambda far: far.shutdown(socket.SHUT_WR)])
async def test_who_ends_without_a_byte_was_silent(listener: Listener, end: Callable[[socket.socket], None]) -> None:
    listener.open()
    end(listener.far[0])
    await eventually(lambda: bool(listener.over))
    assert isinstance(listener.over[0], SilentError)
    assert listener.made == []


async def test_who_says_nothing_in_time_was_silent(listener: Listener) -> None:
    listener.open(0.01)
    await eventually(lambda: bool(listener.over))
    assert isinstance(listener.over[0], SilentError)


async def test_a_handshake_has_its_time(listener: Listener) -> None:
    listener.open(0.05, says=b"\x16")
    await eventually(lambda: bool(listener.over))
    assert (listener.made, isinstance(listener.over[0], TimeoutError)) == ([PEER], True)


async def test_what_waits_for_its_turn_has_so_much_longer(listener: Listener) -> None:
    begins: list[Callable[[], None]] = []
    listener.parts = listener.parts._replace(iteration=Iteration(lambda: 0.0, begins.append))
    listener.parts.iteration.add(1.0, 0)
    listener.open(0.01, says=b"\x16")
    await asyncio.sleep(0.15)
    assert listener.over == []
    begins.pop()()
    await eventually(lambda: listener.made == [PEER])
    await eventually(lambda: bool(listener.over))
    assert isinstance(listener.over[0], TimeoutError)


@pytest.mark.parametrize("size", [1, 11, 12, 13, len(V1), len(V1) + 1])
async def test_a_proxy_header_may_come_in_pieces(listener: Listener, size: int) -> None:
    opening = listener.open(reads_proxy_header=True)
    wire = V1 + b"\x16"
    for place in range(0, len(wire), size):
        listener.far[0].send(wire[place : place + size])
        await steps(3)
    await eventually(lambda: listener.made == [DECLARED])
    assert opening.peer == DECLARED


@pytest.mark.parametrize(
    ("says", "error"), [(b"GET / HTTP/1.1", ProxyHeaderError), (b"PROXY TCP4 192", EOFError), (V1, SilentError)]
)
async def test_a_proxy_header_that_is_none_ends_it(
    listener: Listener, says: bytes, error: type[BaseException]
) -> None:
    listener.open(says=says, reads_proxy_header=True)
    listener.far[0].shutdown(socket.SHUT_WR)
    await eventually(lambda: bool(listener.over))
    assert isinstance(listener.over[0], error)
