"""One accepted connection until TLS is established: first byte, PROXY header, handshake; with one deadline for all.

A connection costs nothing before its first byte, and its work then waits for a turn of the loop: thousands may send
at once, and each costs a tenth of a millisecond, with client certificates half a millisecond. So no connection has a
task: a Drive continues inside the callback whose turn it is.

States, and what ends them:
    SILENT    nothing has arrived. `_first_byte` ends it; so does the deadline, or a close without a byte.
    HEADER    reads the PROXY header, if the peer may send one. `_origin` ends it.
    ATTACHED  the loop has the socket, but has not reported its transport yet: an iteration or two of the loop.
    HANDSHAKE the TLS handshake runs. The transport's `opened` ends it.
    OVER      TLS is established, or the connection was refused; `over` was called.
What can't happen: it outlasts its deadline, except while it waits for a turn of ours; it is ended while ATTACHED:
uvloop 0.23 would use a freed handle (tried: the process ends with SIGSEGV). Whatever would end it is deferred.
"""

import asyncio
import socket
from collections.abc import Callable, Hashable
from dataclasses import replace
from enum import Enum, auto
from ssl import SSLContext, SSLError
from typing import Any, Final, NamedTuple, Protocol

from gateway.aio.drive import Drive, Signal
from gateway.aio.iteration import Iteration
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.transport import TlsTransport
from gateway.listener.proxy_protocol import MAX_BYTES, DeclaredClient, header_end, read_header
from gateway.model.identity import Peer
from gateway.model.networks import client_prefix

_MORE: Final = 0.1
"""Extra seconds for a connection that is past its deadline while it waits for a turn of ours."""


class Accepted(Protocol):
    """The asyncio protocol of an accepted connection; `has_ended` belongs to the acceptor."""

    peer: Peer
    has_ended: bool

    def connection_made(self, transport: Any) -> None:
        """Called once the handshake is complete."""

    def data_received(self, data: bytes) -> None:
        """Called with decrypted data."""

    def connection_lost(self, error: BaseException | None) -> None:
        """Called once."""

    def pause_writing(self) -> None:
        """Called when the write buffer is full: the client takes less than is written."""

    def resume_writing(self) -> None:
        """Called when the client takes more again."""


class OpeningState(Enum):
    """See the module's docstring."""

    SILENT = auto()
    HEADER = auto()
    ATTACHED = auto()
    HANDSHAKE = auto()
    OVER = auto()


class OpeningParts(NamedTuple):
    """All that a listener needs to open connections.

    `tls` returns the context of a handshake (None: without TLS), `make` the protocol for a peer; `move` moves a
    connection's slot to the client that its PROXY header names, and raises ProxyHeaderError if that client's limit is
    reached.
    """

    iteration: Iteration
    buffers: TlsBuffers
    tls: Callable[[], SSLContext] | None
    make: Callable[[Peer], Accepted]
    move: Callable[[Peer, DeclaredClient], Peer]


class SilentError(Exception):
    """A connection ended, or reached its deadline, without a byte."""


class GaveWayError(Exception):
    """A connection was ended to free its slot for another."""


class Opening:
    """Not thread-safe. `over` is called once, with an error, or None if TLS is established; `made`: the protocol."""

    __slots__ = ("_drive", "_end", "_ends", "_over", "_parts", "_signal", "_socket", "_timer", "_tls", "_waits",
                 "made", "peer", "state")  # fmt: skip

    def __init__(
        self,
        accepted: socket.socket,
        peer: Peer,
        parts: OpeningParts,
        over: Callable[["Opening", BaseException | None], None],
    ) -> None:
        self.peer = peer
        self.state = OpeningState.SILENT
        self.made: Accepted | None = None
        self._socket = accepted
        self._parts = parts
        self._over = over
        self._signal = Signal()
        self._waits = False  # whether it waits for a turn of ours
        self._tls: TlsTransport | None = None
        self._end: BaseException | None = None  # the deferred error that will end this
        self._ends = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._drive: Drive | None = None

    def __repr__(self) -> str:
        return f"<Opening {self.peer.ip} {self.state.name.lower()}>"

    def begin(self, ends: float, *, reads_proxy_header: bool) -> None:
        """Begins, in a turn; `ends` is the deadline in loop time. `reads_proxy_header`: expects a PROXY header."""
        self._ends = ends
        self._timer = asyncio.get_running_loop().call_at(ends, self._late)
        self._drive = Drive(self._open(reads_proxy_header=reads_proxy_header), self._ended)
        iteration = self._parts.iteration
        begun = iteration.clock()
        self._drive.step()  # at once: a drive that waits for a turn can be cancelled, one that has not begun can't
        iteration.add(iteration.clock() - begun, 0)

    def cancel(self) -> None:
        """Ends it because the listener closes."""
        self._end_by(asyncio.CancelledError())

    @property
    def gives_way(self) -> bool:
        """Whether it may be ended at once in favor of another: it may until TLS is established."""
        return self._drive is not None and self.state is not OpeningState.ATTACHED

    def give_way(self) -> None:
        """Ends it in favor of another."""
        self._end_by(GaveWayError())

    def _end_by(self, error: BaseException) -> None:
        if self.state is OpeningState.ATTACHED:
            self._end = error
        elif self._drive is not None:
            self._drive.interrupt(error)

    async def _open(self, *, reads_proxy_header: bool) -> None:
        parts = self._parts
        if parts.iteration.is_over:
            self._in_turn(self._signal.set)
            await self._signal
        if reads_proxy_header:
            await self._first_byte()
            self.state = OpeningState.HEADER
            origin = await self._origin()
            self.peer = (
                replace(self.peer, speaks_for_itself=True) if origin is None else parts.move(self.peer, origin)
            )
            self.state = OpeningState.SILENT
        if parts.tls is not None:
            await self._first_byte()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio, unlike uvloop, does not set it
        made = self.made = parts.make(self.peer)
        if parts.tls is None:
            await self._attach(made)
        else:
            await self._handshake(TlsTransport(parts.tls(), made, parts.buffers, parts.iteration, peer=self._prefix))

    async def _handshake(self, tls: TlsTransport) -> None:
        self._tls = tls
        try:
            await self._attach(tls)
            await tls.until_open()
        except BaseException as error:
            tls.opened.cancel()
            if not isinstance(error, (SSLError, UnicodeError)):  # for these two an alert goes to the peer first
                tls.abort()
            raise

    async def _attach(self, protocol: Accepted | TlsTransport) -> None:
        self.state = OpeningState.ATTACHED
        attached = asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, self._socket)  # type: ignore[type-var] # a protocol by what it has
        transport, _ = await attached
        self.state = OpeningState.HANDSHAKE
        if self._end is not None:
            transport.abort()
            raise self._take_end(self._end)

    def _take_end(self, end: BaseException) -> BaseException:
        self._end = None  # its traceback will hold this
        return end

    async def _first_byte(self) -> None:
        """Waits until there is something to read: a silent connection, such as a probe, costs nothing more.

        Raises:
            SilentError: the connection ended, or reached its deadline, without a byte.
        """
        try:
            while not (came := self._look(1)) and came is None:
                await self._readable()
        except (ConnectionError, TimeoutError):
            raise SilentError from None
        if not came:
            raise SilentError

    async def _origin(self) -> DeclaredClient | None:
        """Reads exactly the PROXY header, and not a byte more.

        Raises:
            ProxyHeaderError: it is not a valid header.
            EOFError: the connection ended within it.
            ConnectionError, TimeoutError: likewise.
        """
        header = b""
        while True:
            came = self._look(MAX_BYTES)
            if came is None:
                await self._readable()
                continue
            if not came:
                raise EOFError
            end = header_end(header + came)
            header += self._socket.recv(len(came) if end is None else end - len(header))
            if end is not None:
                return read_header(header)

    def _look(self, most: int) -> bytes | None:
        """Peeks at the bytes that can be read; None: none yet; empty: the connection ended."""
        try:
            return self._socket.recv(most, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None

    async def _readable(self) -> None:
        loop, accepted = asyncio.get_running_loop(), self._socket
        loop.add_reader(accepted, self._wake)
        try:
            await self._signal
        finally:
            loop.remove_reader(accepted)

    def _wake(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._in_turn(self._signal.set)

    # Turns and deadlines

    @property
    def _prefix(self) -> Hashable:
        return client_prefix(self.peer.ip)

    def _in_turn(self, go_on: Callable[[], None]) -> None:
        iteration = self._parts.iteration
        if iteration.is_over:
            self._waits = True
            iteration.call_in_turn(lambda: self._have_turn(go_on), self._prefix, is_small=True)
        else:
            begun = iteration.clock()
            go_on()
            iteration.add(iteration.clock() - begun, 0)

    def _have_turn(self, go_on: Callable[[], None]) -> None:
        self._waits = False
        if self.state is not OpeningState.OVER:
            go_on()

    def _late(self) -> None:
        """Called at the deadline; extends it by the time spent waiting for turns of ours."""
        tls, loop = self._tls, asyncio.get_running_loop()
        waits = self._waits or (tls is not None and tls.waits)
        left = self._ends + (0.0 if tls is None else tls.waited) - loop.time()
        if left > 0 or waits:
            self._timer = loop.call_later(max(left, _MORE), self._late)
        elif self._drive is not None:
            self._in_turn(self._give_up)  # many may reach their deadline at once

    def _give_up(self) -> None:
        self._end_by(TimeoutError())

    def _ended(self, error: BaseException | None) -> None:
        self.state = OpeningState.OVER
        self._drive = None
        if self._timer is not None:
            self._timer.cancel()
        self._over(self, error)
