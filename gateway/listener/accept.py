"""The accept loop of both listeners: caps before anything is spent on a connection, the PROXY header, then TLS.

asyncio's own server offers none of the three, so connections are accepted here and handed to the loop one by one.
A handshake under way has a place as a connection has: who only begins handshakes keeps nobody else out.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext, SSLError
from typing import Any, Final, Protocol

import structlog

from gateway.aio.iteration import Iteration
from gateway.aio.tls.transport import TlsBuffers, TlsTransport
from gateway.errors import EXHAUSTED
from gateway.listener.proxy_protocol import ProxyHeaderError, read_proxy_header
from gateway.model.caller import Peer
from gateway.model.networks import Networks, household, parse_address

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
_REST: Final = 1.0
_MORE: Final = 0.1
"""Seconds more for a handshake whose time is over while it waits for a turn of ours."""
# All from the start on, at 0: what begins at 1 has no increase that anyone could see.
_WHYS: Final = ("silent", "handshake", "proxy_header", "too_many", "too_many_of_address", "out_of_files", "shutdown")
_NOBODY: Final = Networks()
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Door:
    """Whom one listener lets in: connections in all and of one address, handshakes included; seconds for a handshake.

    `exempt` are addresses that many stand behind: they have no share of their own. With `reads_proxy_header` they
    say by a PROXY header who connected to them.
    """

    most: int
    most_of_address: int
    handshake: float
    exempt: Networks = _NOBODY
    reads_proxy_header: bool = False


class _SilentError(Exception):
    """A connection ended, or had its time, without a byte."""


class Accepted(Protocol):
    """The asyncio protocol of a connection that was accepted; `has_ended` is the acceptor's."""

    peer: Peer
    has_ended: bool

    def connection_made(self, transport: Any) -> None:
        """Called once the handshake is over."""

    def data_received(self, data: bytes) -> None:
        """Called with what came, in the clear."""

    def connection_lost(self, error: BaseException | None) -> None:
        """Called once."""

    def pause_writing(self) -> None:
        """Called when more is written than the client takes."""

    def resume_writing(self) -> None:
        """Called when it takes more."""


MakeConnection = Callable[[Peer], Accepted]


class Acceptor:
    """Accepts on one listening socket until it is closed. `refused` counts what was turned away, by why.

    `door` gives the rules of now, `tls` the context that a handshake begins with; None: there is no handshake.
    """

    def __init__(
        self,
        listening: socket.socket,
        door: Callable[[], Door],
        tls: Callable[[], SSLContext] | None,
        make: MakeConnection,
        iteration: Iteration,
    ) -> None:
        self._listening = listening
        self._door = door
        self._tls = tls
        self._make = make
        self._iteration = iteration
        self._loop = asyncio.get_running_loop()
        self._buffers = TlsBuffers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_address: Counter[bytes] = Counter()
        self.connections = 0
        self.is_stopped = False
        self.refused = Counter(dict.fromkeys(_WHYS, 0))

    def start(self) -> None:
        """Begins to accept."""
        self._loop.add_reader(self._listening, self._accept_ready)

    def stop(self) -> None:
        """Takes what the kernel has accepted already, then closes the listening socket."""
        self.is_stopped = True
        self._loop.remove_reader(self._listening)
        while self._accept_ready():
            pass
        self._listening.close()

    async def close(self) -> None:
        """Ends the handshakes that are still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def is_opening(self) -> bool:
        """Whether handshakes are under way."""
        return bool(self._tasks)

    def ended(self, connection: Accepted) -> None:
        """Told once or more for each connection that ended: its place is free again."""
        if not connection.has_ended:
            connection.has_ended = True
            self._leave(connection.peer)

    def _accept_ready(self) -> bool:
        """Accepts a batch; tells whether more may wait."""
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self._accept_failed(error)
                return False
            self._admit(accepted, Peer(parse_address(address[0].partition("%")[0]), address[1]))
        return True

    def _accept_failed(self, error: OSError) -> None:
        if error.errno not in EXHAUSTED:
            return  # the client hung up while it waited: the next one is not to blame
        self.refused["out_of_files"] += 1
        log.error("accepting paused", error=error.strerror)
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_REST, self._accept_again)

    def _accept_again(self) -> None:
        if not self.is_stopped:
            self.start()

    def _admit(self, accepted: socket.socket, peer: Peer) -> None:
        full = self._full(peer)
        if full:
            self.refused[full] += 1
            accepted.close()
            return
        self._enter(peer)
        accepted.setblocking(False)
        task = self._loop.create_task(self._open(accepted, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _full(self, peer: Peer) -> str | None:
        door = self._door()
        if self.connections >= door.most:
            return "too_many"
        if self._by_address[household(peer.ip)] >= door.most_of_address and peer.ip not in door.exempt:
            return "too_many_of_address"
        return None

    def _enter(self, peer: Peer) -> None:
        self.connections += 1
        self._by_address[household(peer.ip)] += 1

    def _leave(self, peer: Peer) -> None:
        self.connections -= 1
        home = household(peer.ip)
        self._by_address[home] -= 1
        if self._by_address[home] <= 0:
            del self._by_address[home]

    async def _open(self, accepted: socket.socket, peer: Peer) -> None:
        """From a raw connection to a TLS one."""
        connection: Accepted | None = None
        door = self._door()
        ends = self._loop.time() + door.handshake
        try:
            if door.reads_proxy_header and peer.ip in door.exempt:
                await self._first_byte(accepted, ends)
                peer = await self._origin(accepted, peer)
            if self._tls is not None:
                await self._first_byte(accepted, ends)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvloop does, asyncio not for such a one
            connection = made = self._make(peer)
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: made, accepted)  # type: ignore[type-var] # a protocol by what it has
            else:
                await self._shake_hands(accepted, made, self._tls(), ends)
        except _SilentError:
            self._turn_away(accepted, connection, peer, "silent")
        except ProxyHeaderError:
            self._turn_away(accepted, connection, peer, "proxy_header")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, UnicodeError):
            # UnicodeError: a client certificate with a name that is no text, which asyncio asks ssl to decode.
            self._turn_away(accepted, connection, peer, "handshake")
        except asyncio.CancelledError:
            self._turn_away(accepted, connection, peer, "shutdown")
            raise

    async def _shake_hands(
        self, accepted: socket.socket, connection: Accepted, context: SSLContext, ends: float
    ) -> None:
        """Lets TLS begin, and end within its time."""
        home = household(connection.peer.ip)
        tls = TlsTransport(context, connection, self._buffers, self._iteration, of=home)
        try:
            await self._loop.connect_accepted_socket(lambda: tls, accepted)
            await opened_in_time(tls, ends)
        except BaseException as error:
            tls.opened.cancel()
            if not isinstance(error, (SSLError, UnicodeError)):  # these two are told to the peer by an alert
                tls.abort()
            raise

    async def _first_byte(self, accepted: socket.socket, ends: float) -> None:
        """Waits until TLS has something to read: who connects and says nothing, as probes do, costs no more."""
        try:
            if not accepted.recv(1, socket.MSG_PEEK):
                raise _SilentError
        except BlockingIOError:
            try:
                async with asyncio.timeout_at(ends):
                    await self._readable(accepted)
            except TimeoutError:
                raise _SilentError from None
            await self._first_byte(accepted, ends)
        except ConnectionError:
            raise _SilentError from None

    async def _readable(self, accepted: socket.socket) -> None:
        readable = asyncio.Event()
        self._loop.add_reader(accepted, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(accepted)

    def _turn_away(self, accepted: socket.socket, connection: Accepted | None, peer: Peer, why: str) -> None:
        self.refused[why] += 1
        if connection is None:
            self._leave(peer)
        else:
            self.ended(connection)
        accepted.close()
        log.debug("connection refused", peer=str(peer.ip), why=why)

    async def _origin(self, accepted: socket.socket, peer: Peer) -> Peer:
        """Reads the PROXY header; the place of the connection goes over to whom it names."""
        async with asyncio.timeout(self._door().handshake):
            origin = await read_proxy_header(lambda size: self._read_exactly(accepted, size))
        if origin is None:
            return peer
        declared = Peer(origin.ip, origin.port)
        if self._full(declared) == "too_many_of_address":
            raise ProxyHeaderError("too_many_of_address")
        self._leave(peer)
        self._enter(declared)
        return declared

    async def _read_exactly(self, accepted: socket.socket, size: int) -> bytes:
        read = b""
        while len(read) < size:
            data = await self._loop.sock_recv(accepted, size - len(read))
            if not data:
                raise asyncio.IncompleteReadError(read, size)
            read += data
        return read


async def opened_in_time(tls: TlsTransport, ends: float) -> None:
    """Waits for the end of a handshake, until a time of the loop; what waits for its turn with us has so much longer.

    Raises:
        TimeoutError: the time is over.
        OSError, UnicodeError: what the handshake failed for.
    """
    loop = asyncio.get_running_loop()
    while not tls.opened.done():
        left = ends + tls.waited - loop.time()
        if left <= 0 and not tls.waits:
            raise TimeoutError
        await asyncio.wait([tls.opened], timeout=max(left, _MORE))
    tls.opened.result()


def bind(address: str, port: int) -> socket.socket:
    """Makes a listening socket.

    Raises:
        OSError: when the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setblocking(False)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
