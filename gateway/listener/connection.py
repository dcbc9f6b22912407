"""One client connection: requests in (reading_turns.py), answers out (way_out.py), deadlines, a coroutine to serve.

Theory of operation.

- Requests are handed one by one to `serve`, which a Drive runs in the very callbacks that feed it. It reads the body
  by `next_piece` and writes by `out.send`.
- What comes waits until somebody wants it, and is read in turns (reading_turns.py).
- What is written waits until the client takes it; where that is too much, the coroutine waits, too (way_out.py).
- Every wait has a deadline (clocks.py), checked by one sweep over all connections instead of a timer for each. While
  what came waits for its turn with us, no time of the client's passes.
- A connection that is lost ends the wait of its coroutine at once, unless the exchange must be finished without it.

States, and who moves them on:
    IDLE     waits for a request of which no byte has come. `note_head` ends it, and `_next_request` for one that is
             whole at once; so do close_idle, retire and end_revoked.
    HEAD     a part of a head has come. `_next_request` ends it when the head is whole, or its deadline.
    SERVING  `serve` runs: nothing is read but what is sent ahead, up to a bound.
    BODY     `serve` waits for the body; the clocks are those of a body.
    CLOSING  the coroutine has ended; what was written and the peer's end have some seconds.
    GONE     the coroutine has ended, and the socket is lost.
What can't happen: a request is served after `revoke`, or beside another one; a wait for the client has no deadline;
`ended` is called while the coroutine runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum, auto
from functools import partial
from typing import Any, Final, NamedTuple

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.aio.drive import Drive
from gateway.aio.iteration import Iteration
from gateway.aio.tls.transport import TlsTransport
from gateway.config.state import Live
from gateway.errors import ClientGone, ClientTooSlow, GatewayError, Refused
from gateway.listener.clocks import FOREVER, Clocks
from gateway.listener.draining import DRAIN_SECONDS, is_too_long_to_drain
from gateway.listener.parser_faults import body_too_slow, head_too_slow
from gateway.listener.reading_turns import ReadingTurns
from gateway.listener.request_reader import Request, is_connect
from gateway.listener.traffic import Traffic
from gateway.listener.way_out import WayOut
from gateway.model.identity import ClientCertificate, Peer
from gateway.model.networks import client_prefix
from gateway.model.request import Headers

Serve = Callable[["ClientConnection", Request, StreamReader], Awaitable[None]]


class Idle(GatewayError):
    """The connection closes without a word: nothing was asked in time, it takes no more, or its end was not taken."""


class ConnectionState(Enum):
    """See above."""

    IDLE = auto()
    HEAD = auto()
    SERVING = auto()
    BODY = auto()
    CLOSING = auto()
    GONE = auto()


class ConnectionOwner(NamedTuple):
    """Callbacks: TLS is established; the connection has ended, and its exchange with it."""

    started: Callable[["ClientConnection"], None]
    ended: Callable[["ClientConnection"], None]


class ClientConnection(asyncio.Protocol):
    """A connection of the public listener, above TLS. Its `transport` is None once it is lost."""

    __slots__ = (
        "_clocks",
        "_drive",
        "_finishes_alone",
        "_is_due",
        "_is_last",
        "_is_lost",
        "_is_unread",
        "_iteration",
        "_live",
        "_loop",
        "_owner",
        "_reading",
        "_serve",
        "_state",
        "_swept_at",
        "_upload",
        "cached_headers",
        "client_ca",
        "ends_at",
        "has_ended",
        "is_deaf",
        "is_retired",
        "out",
        "peer",
        "peer_ip",
        "prefix",
        "request_count",
        "traffic",
        "transport",
    )

    def __init__(
        self, live: Live, peer: Peer, serve: Serve, traffic: Traffic, owner: ConnectionOwner, iteration: Iteration
    ) -> None:
        self.peer = peer
        self.peer_ip = str(peer.ip)
        self.prefix = client_prefix(peer.ip)
        self.client_ca: frozenset[bytes] | None = None
        self.cached_headers: Any = None  # what the headers of the last request mean: the handler's
        self.has_ended = False  # the acceptor's
        self.is_deaf = False  # takes no further request at all
        self.is_retired = False  # takes no further request but one whose head has begun
        self.request_count = 0
        self.transport: TlsTransport | None = None
        self.ends_at = FOREVER
        self._live = live
        self._serve = serve
        self.traffic = traffic
        self._owner = owner
        self._iteration = iteration
        self._loop = asyncio.get_running_loop()
        self._swept_at = 0.0
        self._state = ConnectionState.IDLE
        self._reading = ReadingTurns(self._loop, iteration, self.prefix)
        self._clocks = Clocks(Idle)
        self.out: Final = WayOut(live, self._clocks, traffic, self._loop.time)
        self._drive: Drive | None = None
        self._upload: StreamReader | None = None  # the body whose clocks run
        self._finishes_alone = False  # the exchange goes on without the client
        self._is_due = False  # what it waited for has ended
        self._is_last = False  # no request is served after this one
        self._is_lost = False  # as it was told, in a turn
        self._is_unread = False  # something of the last request was left unread

    def __repr__(self) -> str:
        paused = " paused" if self._reading.is_paused else ""
        return f"<ClientConnection {self.peer_ip} {self._state.name.lower()}{paused} requests={self.request_count}>"

    # What the handler uses: its answer, beside `out`

    @property
    def is_gone(self) -> bool:
        """Whether the client's connection is lost: from then on, not from the turn on in which that is told."""
        return self._is_lost or (self.transport is not None and self.transport.is_lost)

    def closes_after_ours(self, body: StreamReader, *, keep_alive: bool) -> bool:
        """Whether this connection ends after our own answer that begins now: any unread body ends it."""
        return not body.is_eof() or self._ends_anyway(keep_alive=keep_alive)

    def closes_after_forwarded(self, headers: Headers, body: StreamReader) -> bool:
        """Whether this connection ends after the container's answer that begins now.

        A body of which little is left does not end it: it is read and dropped after the answer.
        """
        if self._ends_anyway(keep_alive=headers.keep_alive):
            return True
        return not body.is_eof() and is_too_long_to_drain(headers.content_length, body.total_bytes)

    def _ends_anyway(self, *, keep_alive: bool) -> bool:
        return self._live.is_draining or self.is_retired or not keep_alive

    def note_identity(self) -> None:
        """The client is known, or uses a route for jobs: now more may wait here and in the kernel, both ways."""
        if not self.out.holds_much and not self.is_gone:
            self._reading.read_much()
            self.out.hold_much()

    # What the handler uses: the body

    @property
    def is_coded(self) -> bool:
        """Whether the body of the request that is served is in chunks."""
        return self._reading.reader.is_coded

    @property
    def body_wire(self) -> int:
        """Bytes of the wire that were read of that body."""
        return self._reading.reader.body_wire

    def expect_body(self, length: int | None) -> None:
        """Says how many bytes the request's body has, when its head says so: they need not all be parsed."""
        self._reading.reader.expect_body(length)

    def invite(self, headers: Headers) -> None:
        """Asks for the request's body, if the client waits for that."""
        if headers.expects_continue:
            self.out.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def start_body(self, body: StreamReader) -> None:
        """Starts the clocks of a body: silence, and the least rate."""
        self._upload = body
        self._state = ConnectionState.BODY
        idle = self._live.state.pace.body_idle
        self.expect(idle, body_too_slow)
        self._clocks.measure(self._loop.time(), idle, body.total_bytes)

    def next_piece(self, body: StreamReader) -> Coroutine[Any, Any, bytes]:
        """Waits for the next bytes of a body; nothing once it has ended.

        Raises:
            Refused: body_malformed, also for a coding out of all proportion.
        """
        return self._reading.next_piece(body)

    def has_come(self, body: StreamReader, size: int, within: float) -> Coroutine[Any, Any, bool]:
        """Whether so many bytes of a body are here; waits for them no longer than `within` seconds."""
        return self._reading.has_come(body, size, within)

    def note_body_progress(self) -> None:
        """Some of the body came: the silence starts again, the rate is measured on."""
        self._clocks.move(self._loop.time() + self._live.state.pace.body_idle)

    def end_body(self) -> None:
        """Stops the body's clocks."""
        self._reading.listen()
        if self._state is ConnectionState.BODY:
            self._state = ConnectionState.SERVING
        self.expect_nothing()

    @property
    def is_reading_body(self) -> bool:
        """Whether the clocks are those of a body that is waited for."""
        return self._state is ConnectionState.BODY

    def time_for(self, size: int) -> Coroutine[Any, Any, None]:
        """Waits for an iteration with time, before so many bytes are read in one piece that can't be interrupted."""
        return self._reading.time_for(size)

    async def let_others(self) -> None:
        """Waits for a later iteration, between two pieces of work that can't be interrupted."""
        await self._reading.wait_for_turn(is_large=True)
        self._reading.turn.work()

    # What the handler uses: waits and ends

    def interrupt(self, error: BaseException) -> None:
        """Ends the coroutine's present wait with an error."""
        if self._drive is not None:
            self._drive.interrupt(error)

    def expect(self, within: float, late: Callable[[], GatewayError]) -> None:
        """Lets the waits from now on end with an error after so many seconds; until the next call."""
        self._clocks.expect(self._loop.time() + within, late)

    def expect_nothing(self) -> None:
        """Takes the deadline back."""
        self._clocks.stop()

    def finish_alone(self) -> None:
        """Lets this exchange go on though the client leaves, until `finish_together`."""
        self._finishes_alone = True

    def finish_together(self) -> None:
        """Ends this exchange with its client again: what is left of it matters to nobody else.

        Raises:
            ClientGone: the client has left.
        """
        if self._finishes_alone and self.is_gone:
            raise ClientGone("The client left after its request was released upstream.")
        self._finishes_alone = False

    def end_after_this(self) -> None:
        """Serves no request after this one."""
        self._is_last = True

    def abort(self) -> None:
        """Cuts the connection off, so that the client can't take what it got for the whole; serves no more of it."""
        self._is_last = True
        if self.transport is not None:
            self.transport.abort()

    # What those use who end connections

    @property
    def is_between_requests(self) -> bool:
        """Whether it serves none now, nor will it once it is deaf: of the next one no more than the head is read."""
        return self._state is ConnectionState.IDLE or self._state is ConnectionState.HEAD

    @property
    def awaits_first_byte(self) -> bool:
        """Whether it waits for a request of which no byte has come."""
        reading = self._reading
        return reading.awaits_head and not reading.reader.has_begun and not self.waits_for_us

    @property
    def is_unfinished(self) -> bool:
        """Whether something might be lost if it were cut off now: an exchange, a first request, an answer's tail."""
        return self._drive is not None or self.out.unsent > 0

    def close_idle(self) -> None:
        """Closes it, if it waits for another request; one that was opened just now may still send its first."""
        self._end_soon(lambda: self.awaits_first_byte and self.request_count > 0)

    def retire(self) -> None:
        """Takes no further request, but for one whose head has begun: closes it now, or after that answer."""
        self.is_retired = True
        self._end_soon(lambda: self.awaits_first_byte)

    def revoke(self) -> None:
        """Lets no further request through; `end_revoked` closes it, unless an answer is under way: then that does."""
        self.is_retired = self.is_deaf = True

    def end_revoked(self) -> None:
        """Closes it, if it waits for a request, perhaps in the middle of a head."""
        self._end_soon(lambda: self._reading.awaits_head)

    def end_by(self, at: float) -> None:
        """Retires it at a time of the loop, if its own does not come before."""
        self.ends_at = min(self.ends_at, at)

    def set_certificate(self, certificate: ClientCertificate | None) -> None:
        """Lets the client count as one with this certificate from now on, or as one without."""
        self.peer = self.peer.with_certificate(certificate)

    def _end_soon(self, may_end: Callable[[], bool]) -> None:
        """Ends the wait for a request in a turn of its own, for many connections may be told to end at once."""
        if may_end():
            self._iteration.call_in_turn(
                lambda: self.interrupt(Idle()) if may_end() else None, self.prefix, is_small=True
            )

    # The protocol above TLS

    def connection_made(self, transport: Any) -> None:
        """Called once the handshake is over."""
        self.transport = self._reading.transport = transport
        self.out.open(transport)
        self._swept_at = self._loop.time()
        self.ends_at = self._swept_at + self._live.state.pace.lifetime
        self._owner.started(self)
        self._drive = Drive(self._run(), self._ended, self._resume)
        self._drive.step()

    def data_received(self, data: bytes) -> None:
        """Called with what came, in the clear."""
        self.traffic.received += len(data)
        self._reading.take(data)

    def connection_lost(self, error: BaseException | None) -> None:
        """Called once, in a turn for it (TlsTransport): many may be lost at once, and each may end an exchange."""
        del error
        self._is_lost = True
        self.transport = None
        self._reading.close()
        self.out.close()
        if self._drive is None:
            self._notify_end()
        elif not self._finishes_alone:
            self.interrupt(ClientGone("The client closed the connection."))

    def pause_writing(self) -> None:
        """Called when more is written than the client takes."""
        self.out.pause()

    def resume_writing(self) -> None:
        """Called when it takes more."""
        self.out.resume()

    # Turns

    def _resume(self, go_on: Callable[[], None]) -> None:
        """Goes on after a future: many end at once where the ledger writes for all who wait."""
        if self._iteration.is_over:
            self._is_due = True
            self._iteration.call_in_turn(partial(self._go_on, go_on), self.prefix, is_small=True)
        else:
            self._go_on(go_on)

    def _go_on(self, go_on: Callable[[], None]) -> None:
        self._is_due = False
        turn = self._reading.turn
        turn.work()
        go_on()
        turn.rest()

    @property
    def waits_for_us(self) -> bool:
        """Whether what the client sent, or what was done for it, waits for its turn."""
        waits = self._reading.awaits_turn or self._is_due
        return waits or (self.transport is not None and self.transport.waits)

    # Deadlines

    def sweep(self, now: float) -> None:
        """Ends the present wait when its time is over or its bytes come too slowly; `now` is the loop's time.

        The connection itself retires when its own time is over.
        """
        waits, transport = self.waits_for_us, self.transport
        since, self._swept_at = self._swept_at, now
        has_sent_ahead = self._reading.is_paused and not self.is_reading_body and not waits
        if transport is not None and transport.has_left(or_says_no_more=has_sent_ahead):
            transport.abort()
            return
        if now >= self.ends_at:
            self.retire()  # at each sweep: what waits for its turn now may be nothing that ends it later
        if waits:
            self._clocks.extend(now - since)
            return
        if self.out.is_paused and not self.is_reading_body:
            self.out.note_taken(now)
        if self._is_overdue(now):  # many may be, in one sweep
            self._iteration.call_in_turn(partial(self._end_wait, now), self.prefix, is_small=True)

    def _is_overdue(self, now: float) -> bool:
        so_far = self._upload.total_bytes if self.is_reading_body and self._upload is not None else self.out.taken
        return self._clocks.is_overdue(now, so_far, self._live.state.pace.min_rate)

    def _end_wait(self, now: float) -> None:
        """Ends the wait that was overdue then, if it has not ended meanwhile."""
        if not self._is_overdue(now):
            return
        self.expect_nothing()
        if self._drive is None:
            self.abort()  # it was closed, but what was written is not taken
        else:
            self._drive.interrupt(self._clocks.late())

    # The coroutine

    async def _run(self) -> None:
        """Serves the requests of this connection one after the other."""
        self.expect(self._live.state.pace.head, Idle)
        while not self._is_last and not self._takes_no_more:
            request, body = await self._next_request()
            await self._serve(self, request, body)
            self._finishes_alone = False
            self._upload = None
            self._is_unread = isinstance(request, Refused) or not body.is_eof()
            del request, body  # an idle connection would keep them, and a head may have 64 KB
            if self.out.is_paused:
                await self.out.until_writable()
            self.expect(self._live.state.pace.idle, Idle)
            if self._reading.reader.has_more:  # others have their turn between two requests of one piece
                await self._reading.wait_for_turn()
        await self.out.until_all_taken()  # closing has a deadline, but no such patience

    @property
    def _takes_no_more(self) -> bool:
        return self.is_retired or self.is_gone

    async def _next_request(self) -> tuple[Request, StreamReader]:
        self._await_request()
        try:
            await self._reading.until_head(self)
            if self.is_deaf:
                raise Idle
        except Refused as refused:  # the head is too slow or too large: it is answered, then the connection closes
            return refused, EMPTY_PAYLOAD
        finally:
            self._state = ConnectionState.SERVING
            self._clocks.stop()
        return self._take_request()

    def _await_request(self) -> None:
        """Nothing of the last request is left but what its headers mean, and that not when they were large."""
        if self._reading.reader.was_large:
            self.cached_headers = None
        self._reading.reader.begin()
        self._state = ConnectionState.IDLE

    def _take_request(self) -> tuple[Request, StreamReader]:
        """The request whose head is whole."""
        self.request_count += 1
        request, body = self._reading.reader.take()
        if is_connect(request):
            self._is_last = True
        if body.is_eof():
            self._reading.listen()
        return request, body

    # Whoever waits for a head (HeadWaiter)

    def check_still_waits(self) -> None:
        """Raises Idle when it closes, but for a request whose head has begun."""
        may_finish_head = self.is_retired and self._reading.reader.has_begun
        if self._takes_no_more and not may_finish_head:
            raise Idle

    def note_head(self) -> None:
        """A part of the head has come: its deadline begins."""
        if self._state is ConnectionState.IDLE:
            self._state = ConnectionState.HEAD
            self.expect(self._live.state.pace.head, head_too_slow)

    def _ended(self, error: BaseException | None) -> None:
        self._drive = None
        self._state = ConnectionState.CLOSING
        if self.transport is None:
            self._notify_end()
        else:
            # Meanwhile TLS drops what comes (unwanted.py), and waits for the peer's end with no bound but this.
            self.expect(DRAIN_SECONDS if self._is_unread else self._live.state.pace.send_idle, Idle)
            if isinstance(error, ClientTooSlow):
                self.transport.abort()
            else:
                self.transport.close()
        if error is not None and not isinstance(error, GatewayError):
            self._loop.call_exception_handler({"message": "A connection's loop failed", "exception": error})

    def _notify_end(self) -> None:
        self._state = ConnectionState.GONE
        self._owner.ended(self)
