"""One accepted connection until its TLS stands: the first byte, the PROXY header, the handshake; all within one time.

Nothing is spent on a connection before it says something, and what is spent then waits for a turn of the loop
(Iteration.wait): thousands may say something at once, and each costs a tenth of a millisecond, with client
certificates half of one. So no task waits for each: a Drive goes on in the very callback whose turn it is.

States, and who moves them on:
    SILENT   nothing came. `_first_byte` ends it; so does the deadline, or an end without a byte.
    HEADER   the PROXY header is read, where the peer may send one. `_origin` ends it.
    ATTACHED the socket was given to the loop, which has not told of its transport yet: a turn or two of the loop.
    SHAKING  TLS shakes hands. The transport's `opened` ends it.
    OVER     TLS stands, or the connection was turned away; `over` was told.
What can't happen: it lasts longer than its time, but for what it waited for turns of ours; it is ended while it is
ATTACHED: uvloop 0.23 uses a handle that is gone then (tried: the process ends by SIGSEGV). What would end it waits.
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
from gateway.aio.tls.transport import TlsBuffers, TlsTransport
from gateway.listener.proxy_protocol import MAX_BYTES, Origin, header_end, read_header
from gateway.model.caller import Peer
from gateway.model.networks import household

_MORE: Final = 0.1
"""Seconds more for what has had its time while it waits for a turn of ours."""


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


class OpeningState(Enum):
    """See above."""

    SILENT = auto()
    HEADER = auto()
    ATTACHED = auto()
    SHAKING = auto()
    OVER = auto()


class Means(NamedTuple):
    """What a listener opens connections with.

    `tls` gives the context of a handshake (None: there is none), `make` the protocol of a peer; `move` lets the place
    of a connection go over to whom its PROXY header names, and raises ProxyHeaderError when there is none for him.
    """

    iteration: Iteration
    buffers: TlsBuffers
    tls: Callable[[], SSLContext] | None
    make: Callable[[Peer], Accepted]
    move: Callable[[Peer, Origin], Peer]


class SilentError(Exception):
    """A connection ended, or had its time, without a byte."""


class GaveWayError(Exception):
    """A connection was ended to make room for another."""


class Opening:
    """Belongs to one loop. `over` is told once, with the error, or None when TLS stands; `made` is what was made."""

    __slots__ = ("_drive", "_end", "_ends", "_means", "_over", "_signal", "_socket", "_timer", "_tls", "_waits",
                 "made", "peer", "state")  # fmt: skip

    def __init__(
        self,
        accepted: socket.socket,
        peer: Peer,
        means: Means,
        over: Callable[["Opening", BaseException | None], None],
    ) -> None:
        self.peer = peer
        self.state = OpeningState.SILENT
        self.made: Accepted | None = None
        self._socket = accepted
        self._means = means
        self._over = over
        self._signal = Signal()
        self._waits = False  # for a turn of ours
        self._tls: TlsTransport | None = None
        self._end: BaseException | None = None  # what waits until it may end this
        self._ends = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._drive: Drive | None = None

    def __repr__(self) -> str:
        return f"<Opening {self.peer.ip} {self.state.name.lower()}>"

    def begin(self, ends: float, *, reads_proxy_header: bool) -> None:
        """Begins, in a turn; it ends at a time of the loop. With `reads_proxy_header` that comes first."""
        self._ends = ends
        self._timer = asyncio.get_running_loop().call_at(ends, self._late)
        self._drive = Drive(self._open(reads_proxy_header=reads_proxy_header), self._ended)
        iteration = self._means.iteration
        begun = iteration.clock()
        self._drive.step()  # at once, for who waits for a turn can be cancelled, and who has not begun can't
        iteration.add(iteration.clock() - begun, 0)

    def cancel(self) -> None:
        """Ends it, for the listener ends."""
        self._end_by(asyncio.CancelledError())

    @property
    def gives_way(self) -> bool:
        """Whether it may be ended for the sake of another, and at once: as long as TLS does not stand."""
        return self._drive is not None and self.state is not OpeningState.ATTACHED

    def give_way(self) -> None:
        """Ends it, for the sake of another."""
        self._end_by(GaveWayError())

    def _end_by(self, error: BaseException) -> None:
        if self.state is OpeningState.ATTACHED:
            self._end = error
        elif self._drive is not None:
            self._drive.interrupt(error)

    async def _open(self, *, reads_proxy_header: bool) -> None:
        means = self._means
        if means.iteration.is_over:
            self._in_turn(self._signal.set)
            await self._signal
        if reads_proxy_header:
            await self._first_byte()
            self.state = OpeningState.HEADER
            origin = await self._origin()
            self.peer = (
                replace(self.peer, speaks_for_itself=True) if origin is None else means.move(self.peer, origin)
            )
            self.state = OpeningState.SILENT
        if means.tls is not None:
            await self._first_byte()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvloop does, asyncio not for such a one
        made = self.made = means.make(self.peer)
        if means.tls is None:
            await self._attach(made)
        else:
            await self._shake_hands(TlsTransport(means.tls(), made, means.buffers, means.iteration, of=self._home))

    async def _shake_hands(self, tls: TlsTransport) -> None:
        self._tls = tls
        try:
            await self._attach(tls)
            await tls.opened
        except BaseException as error:
            tls.opened.cancel()
            if not isinstance(error, (SSLError, UnicodeError)):  # these two are told to the peer by an alert
                tls.abort()
            raise

    async def _attach(self, protocol: Accepted | TlsTransport) -> None:
        self.state = OpeningState.ATTACHED
        attached = asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, self._socket)  # type: ignore[type-var] # a protocol by what it has
        transport, _ = await attached
        self.state = OpeningState.SHAKING
        if self._end is not None:
            transport.abort()
            raise self._end

    async def _first_byte(self) -> None:
        """Waits until there is something to read: who connects and says nothing, as probes do, costs no more.

        Raises:
            SilentError: it ended, or had its time, without a byte.
        """
        try:
            while not (came := self._look(1)) and came is None:
                await self._readable()
        except (ConnectionError, TimeoutError):
            raise SilentError from None
        if not came:
            raise SilentError

    async def _origin(self) -> Origin | None:
        """Reads the PROXY header, and not a byte more.

        Raises:
            ProxyHeaderError: it is none.
            EOFError: it broke off.
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
        """What is there to be read, which stays there; None: nothing yet, and nothing: the end."""
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
    def _home(self) -> Hashable:
        return household(self.peer.ip)

    def _in_turn(self, go_on: Callable[[], None]) -> None:
        iteration = self._means.iteration
        if iteration.is_over:
            self._waits = True
            iteration.wait(lambda: self._have_turn(go_on), self._home, is_small=True)
        else:
            begun = iteration.clock()
            go_on()
            iteration.add(iteration.clock() - begun, 0)

    def _have_turn(self, go_on: Callable[[], None]) -> None:
        self._waits = False
        if self.state is not OpeningState.OVER:
            go_on()

    def _late(self) -> None:
        """The time is over, but for what was waited for turns of ours."""
        tls, loop = self._tls, asyncio.get_running_loop()
        waits = self._waits or (tls is not None and tls.waits)
        left = self._ends + (0.0 if tls is None else tls.waited) - loop.time()
        if left > 0 or waits:
            self._timer = loop.call_later(max(left, _MORE), self._late)
        elif self._drive is not None:
            self._in_turn(self._give_up)  # many may be late at once

    def _give_up(self) -> None:
        self._end_by(TimeoutError())

    def _ended(self, error: BaseException | None) -> None:
        self.state = OpeningState.OVER
        self._drive = None
        if self._timer is not None:
            self._timer.cancel()
        self._over(self, error)
