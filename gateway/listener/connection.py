"""One client connection: aiohttp's parser in front, our deadlines, our write side, and one coroutine behind.

This is the one file that stands on aiohttp's private names (each has a test): `_messages`, `_parser`, `_ErrInfo`,
`start`, `_loop`, `_http_chunk_splits`. What is ours here:
- requests are handed one by one to `serve`, run by a Drive instead of two tasks for each request;
- every wait has a deadline, checked by one sweep over all connections (sweep.py) instead of a timer for each wait;
- a connection that is lost ends the wait of its coroutine at once, unless the exchange must be finished without it;
- faults that the parser finds arrive as values among the messages, and are answered like all others;
- the parser is fed on demand, by whoever waits for a head or a body, in slices, until the turn is over (turn.py):
  aiohttp would parse all that one read brings, which in chunks of one byte takes it a hundred milliseconds.

Stages, and who moves them on:
    idle     waits for a request of which no byte has come. `_feed_head` ends it; so do close_idle, retire and revoke.
    head     a head has begun. `_until_message` ends it when the head is whole, or its deadline.
    serving  `serve` runs: nothing is read but what is sent ahead, up to a bound.
    body     `serve` waits for the body; the clocks are those of a body.
    closing  the coroutine has ended; what was written and the peer's end have some seconds.
    gone     the socket is lost.
What can't happen: a request is served after `revoke`, or beside another one; a wait has no deadline, but for the
idle time of who serves; `on_end` is called while the coroutine runs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, RawRequestMessage
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from gateway.aio.drive import Drive, Signal
from gateway.aio.iteration import Iteration
from gateway.aio.sweep import TICK
from gateway.aio.tls.transport import TlsTransport
from gateway.aio.turn import SLICE, Turn
from gateway.config.state import Live
from gateway.errors import ClientGone, ClientTooSlow, GatewayError, Refused, refuse
from gateway.http.headers import MOST_HEAD_BYTES
from gateway.http.parser_faults import body_too_slow, ends_in_http_1_0, head_too_slow, is_whole_head, parser_fault
from gateway.listener.backlog import Backlog
from gateway.listener.coding import Coding
from gateway.listener.parser_bypass import ParserBypass
from gateway.model.caller import Peer
from gateway.model.networks import household
from gateway.model.reasons import Reason
from gateway.model.request import Fields

_READ_SIZE: Final = 262_144
_HIGH_WATER: Final = 262_144
_MOST_HEADERS: Final = 100
_LONGEST_LINE: Final = 8190
_END: Final = b"\r\n\r\n"
_PIECE: Final = 262_144  # bytes of a body that pass the parser by at once
_SMALL: Final = 65_536  # bytes of a body with a length that the parser is given at once
_LINGERING: Final = 2.0  # seconds in which who still sends what nobody reads may take our answer
_FOREVER: Final = float("inf")
MAX_DRAIN_BYTES: Final = 1_048_576
"""So much of a body that nobody wants is read and dropped, for the sake of its connection."""

# What is served: a message of aiohttp's parser, or the fault that was found in its place.
Request = RawRequestMessage | Refused
Serve = Callable[["ClientConnection", Request, StreamReader], Awaitable[None]]


class Idle(GatewayError):
    """Nothing was asked for the idle time: the connection closes without a word."""


class Traffic:
    """Bytes of all client connections since the start, in the clear; read by the metrics."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class ClientConnection(RequestHandler):
    """A connection of the public listener, made by `connect_accepted_socket` once TLS stands."""

    __slots__ = (
        "_again",
        "_arrival",
        "_backlog",
        "_body",
        "_body_left",
        "_bypass",
        "_coding",
        "_drive",
        "_empty_bytes",
        "_head",
        "_head_bytes",
        "_in_head",
        "_is_again",
        "_is_between",
        "_is_deaf",
        "_is_stalled",
        "_is_unread",
        "_iteration",
        "_last_progress",
        "_late",
        "_more_body",
        "_my_turn",
        "_on_end",
        "_on_start",
        "_reading_body",
        "_repeated",
        "_serve",
        "_tls",
        "_traffic",
        "_turn",
        "_window_bytes",
        "_window_ends",
        "_written",
        "body_wire",
        "caller",
        "client_ca",
        "deadline",
        "ends_at",
        "finishes_alone",
        "has_ended",
        "household",
        "is_coded",
        "is_gone",
        "is_last",
        "is_revoked",
        "live",
        "on_writable",
        "peer",
        "peer_ip",
        "request_count",
        "writable",
    )  # fmt: skip

    def __init__(
        self,
        server: web.Server,
        live: Live,
        peer: Peer,
        serve: Serve,
        traffic: Traffic,
        on_start: Callable[["ClientConnection"], None],
        on_end: Callable[["ClientConnection"], None],
        iteration: Iteration,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=0,
            access_log=None,  # type: ignore[arg-type] # aiohttp takes None for "no access log"
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
            read_bufsize=_READ_SIZE,
            auto_decompress=False,
        )
        self.live = live
        self.peer = peer
        self.peer_ip = str(peer.ip)
        self.household = household(peer.ip)
        self.client_ca: str | None = None
        self.caller: Any = None  # what the handler remembers with this connection
        self.is_gone = self.has_ended = self.finishes_alone = False
        self.is_last = self.is_coded = self.is_revoked = False
        self.body_wire = 0
        self.request_count = 0
        self.writable = Signal()
        self.on_writable: Callable[[], None] | None = None
        self.deadline = _FOREVER
        self.ends_at = _FOREVER
        self._late: Callable[[], GatewayError] = Idle
        self._serve = serve
        self._traffic = traffic
        self._on_start = on_start
        self._on_end = on_end
        self._arrival = Signal()
        self._more_body = Signal()
        self._drive: Drive | None = None
        self._body: StreamReader | None = None
        self._bypass = ParserBypass()
        self._reading_body = False
        self._in_head = False
        self._is_between = True
        self._head = b""
        self._head_bytes = 0
        self._empty_bytes = 0  # of the lines before it
        self._again = b""
        self._is_again = False
        self._is_deaf = False  # to any further request
        self._repeated: RawRequestMessage | None = None
        self._body_left = 0
        self._backlog = Backlog()
        self._is_stalled = False
        self._is_unread = False
        self._coding = Coding()
        self._iteration = iteration
        self._turn = Turn(iteration)
        self._my_turn = Signal()
        self._written = 0
        self._last_progress = 0
        self._window_ends = _FOREVER
        self._window_bytes = 0
        self._tls: TlsTransport | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer_ip} {self._stage} requests={self.request_count}>"

    @property
    def _stage(self) -> str:
        """Where it stands, in a word: see the file's head."""
        if self._drive is None:
            return "gone" if self.is_gone else "closing"
        if self.is_idle:
            return "idle"
        if self._in_head:
            return "head"
        return "body" if self._reading_body else "serving"

    # What the handler uses

    def send(self, data: bytes) -> None:
        """Writes to the client; a client that is gone gets nothing, which `is_gone` tells."""
        if self.transport is not None:
            size = len(data)
            self._written += size
            self._traffic.sent += size
            self.transport.write(data)

    def interrupt(self, error: BaseException) -> None:
        """Ends the coroutine's present wait with an error."""
        if self._drive is not None:
            self._drive.interrupt(error)

    def expect(self, within: float, late: Callable[[], GatewayError]) -> None:
        """Lets the waits from now on end with an error after so many seconds; until the next call."""
        self.deadline = self._loop.time() + within
        self._late = late
        self._window_ends = _FOREVER

    def expect_nothing(self) -> None:
        """Takes the deadline back."""
        self.deadline = self._window_ends = _FOREVER

    def expect_body(self, length: int | None) -> None:
        """Says how many bytes the request's body has, when its head says so: they need not all be parsed."""
        self._bypass.expect(length)

    def start_body(self, body: StreamReader) -> None:
        """Starts the clocks of a body: silence, and the least rate."""
        self._body = body
        self._reading_body = True
        pace = self.live.state.pace
        self.expect(pace.body_idle, body_too_slow)
        self._open_window(pace.body_idle, body.total_bytes)

    async def next_piece(self, body: StreamReader) -> bytes:
        """Waits for the next bytes of a body; nothing once it has ended.

        StreamReader.readany would do the same one turn of the loop later, when the kernel's buffer has been read
        three times more: pieces three times as large, joined by a copy, and out of the processor's cache.

        Raises:
            Refused: body_malformed, also for a coding out of all proportion.
            RequestPayloadError: when the body's coding is malformed in another way.
        """
        self._turn.work()
        while True:
            if self._turn.is_over:
                await self._let_others_have_a_turn()
            data = body.read_nowait()
            if data or body.is_eof():
                return data
            if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
                # The parser gave up within the body and dropped it without a word to its reader.
                raise refuse(Reason.BODY_MALFORMED, "The body's chunked coding is malformed.")
            self._bypass.open(body.total_bytes)
            if self._backlog or self._is_stalled:
                self._feed_body(body)
            else:
                self._read_on()
                self._turn.rest()
                await self._more_body
                self._turn.work()

    async def _let_others_have_a_turn(self) -> None:
        """Ends the reading for this turn of the loop: libuv would go on while there is more, 8 MB at a time."""
        if not self._buffer_paused:
            self._pause_reading_for_buffer()
        await self._wait_for_turn()
        self._turn.work()

    async def _wait_for_turn(self) -> None:
        self._turn.rest()
        self._my_turn.clear()
        is_small = self._turn.needs_little(len(self._backlog))
        self._iteration.wait(self._begin_turn, self.household, is_small=is_small)
        await self._my_turn

    def _begin_turn(self) -> None:
        self._my_turn.set()
        self._turn.rest()  # what was resumed may wait for others now

    def _read_on(self) -> None:
        """Lets more come, once all that came is parsed."""
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def _listen(self) -> None:
        """Reads on while a request is served, so that a client that leaves is noticed; what comes is bounded."""
        if self._buffer_paused and len(self._backlog) <= MOST_HEAD_BYTES:
            self._resume_reading_for_buffer()

    def body_moved(self) -> None:
        """Some of the body came: the silence begins anew, the rate is measured on."""
        self.deadline = self._loop.time() + self.live.state.pace.body_idle

    def end_body(self) -> None:
        """Stops the body's clocks."""
        self._listen()
        self._reading_body = False
        self.expect_nothing()

    async def writable_again(self) -> None:
        """Waits until the client took what was written, at its least rate.

        Raises:
            ClientTooSlow: when it did not.
        """
        while self._paused and not self.is_gone:
            self.watch_reader()
            await self.writable
        self.expect_nothing()

    async def taken(self) -> None:
        """Waits until the client took all that was written, at its least rate.

        Raises:
            ClientTooSlow: when it did not.
        """
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=1, low=0)
            await self.writable_again()
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    def watch_reader(self) -> None:
        """Starts the clocks of a client that does not take what was written."""
        pace = self.live.state.pace
        self._last_progress = self._taken()
        self.expect(pace.send_idle, ClientTooSlow)
        self._open_window(pace.send_idle, self._last_progress)

    def abort(self) -> None:
        """Cuts the connection off, so that the client can't take what it got for the whole; serves no more of it."""
        self.is_last = True
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request of which no byte has come."""
        return self._arrival.is_awaited and not self._in_head and not self._waits_for_us

    @property
    def is_unfinished(self) -> bool:
        """Whether something would be lost if it were cut off now: an exchange, or the tail of an answer."""
        unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
        return self._drive is not None or unsent

    @property
    def _has_more(self) -> bool:
        """Whether something came behind the request that is served now."""
        return bool(self._messages or self._backlog or self._is_stalled)

    def close_idle(self) -> None:
        """Closes it, if it waits for another request; one that was opened just now may still send its first."""
        self._end_soon(lambda: self.is_idle and self.request_count > 0)

    def retire(self) -> None:
        """Takes no further request, but for one whose head has begun: closes it now, or behind that answer."""
        self.is_revoked = True
        self._end_soon(lambda: self.is_idle)

    def revoke(self) -> None:
        """Lets no further request through: closes it now, or behind the answer that is under way."""
        self.is_revoked = self._is_deaf = True
        self._end_soon(lambda: self._arrival.is_awaited)  # perhaps in the middle of a head

    def _end_soon(self, may_end: Callable[[], bool]) -> None:
        """Ends the wait for a request in a turn of its own, for many connections may be told to end at once."""
        if may_end():
            self._iteration.wait(lambda: self.interrupt(Idle()) if may_end() else None, self.household, is_small=True)

    @property
    def is_reading_body(self) -> bool:
        """Whether the clocks are those of a body that is waited for."""
        return self._reading_body

    def must_close(self, fields: Fields, body: StreamReader) -> bool:
        """Whether this connection ends behind the answer that begins now.

        A body of which little is left does not end it: it is read and dropped behind the answer.
        """
        if self.live.is_draining or self.is_revoked or not fields.keep_alive:
            return True
        if body.is_eof():
            return False
        length = fields.content_length
        return length is None or length - body.total_bytes > MAX_DRAIN_BYTES

    @property
    def is_closing(self) -> bool:
        """Whether no further request will be read."""
        return bool(self.is_revoked or self._force_close or self._close)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop once the handshake is over."""
        # Not RequestHandler's: it would start a task for this connection, and a timer.
        super(RequestHandler, self).connection_made(transport)
        transport.set_write_buffer_limits(high=_HIGH_WATER)  # type: ignore[attr-defined] # a stream transport
        self._manager.connection_made(self, transport)  # type: ignore[union-attr,arg-type] # both stand until it is lost
        self._tls = transport  # type: ignore[assignment] # this listener has no other
        self.ends_at = self._loop.time() + self.live.state.pace.lifetime
        self._on_start(self)
        self._drive = Drive(self.start(), self._ended)
        self._drive.step()

    def data_received(self, data: bytes) -> None:
        """Called by the loop with what came, in the clear; and by a body with nothing, so that the parser goes on."""
        if not data:
            super().data_received(data)
            return
        self._traffic.received += len(data)
        self._turn.work()
        if data == self._again and self._arrival.is_awaited and not self._in_head:
            self._is_again = True
            self._arrival.set()
        else:
            self._again = b""
            self._backlog.add(data)
            self._wake()
        self._turn.rest()

    def _wake(self) -> None:
        """Lets whoever waits for more have it; what nobody waits for is bounded: 64 KB, and what one read brings."""
        if self._arrival.is_awaited:
            self._arrival.set()
        elif self._more_body.is_awaited:
            self._more_body.set()
        elif len(self._backlog) > MOST_HEAD_BYTES and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _feed(self, most: int) -> bytes:
        """Gives the parser what comes next. It stops at 32 requests, and then goes on with what it holds."""
        data = b"" if self._is_stalled else self._backlog.take(most)
        self._bypass.give(len(data))
        super().data_received(data)
        self._upgraded = False  # upgrades are ignored: what follows is HTTP
        self._message_tail = b""
        self._is_stalled = len(self._messages) >= self._max_msg_queue_size
        return data

    def _feed_head(self) -> None:
        """Looks for the next request in what came, by no more than its head.

        A fault takes all with it that the parser was given in the same piece, and whatever stands behind a request
        with `Connection: close` is one. Besides, what is left then is known to be the next request's.

        Raises:
            Refused: headers_too_large.
        """
        # The parser would be given each two of them by themselves, for they look like the end of a head.
        is_first = self._is_between and not self._head and not self._is_stalled
        skipped = self._backlog.skip_empty_lines() if is_first else 0
        has_more = self._backlog or self._is_stalled
        data = self._feed(min(SLICE, self._backlog.through(_END, self._head))) if has_more else b""
        self._turn.spend(skipped + len(data), 1)  # a piece of a head costs the parser as much as a chunk
        self._empty_bytes += skipped
        self._head_bytes += len(data)
        if len(self._head) <= _LONGEST_LINE:
            self._head += data
        if self._messages:
            return
        if self._empty_bytes + self._head_bytes > MOST_HEAD_BYTES:
            raise refuse(Reason.HEADERS_TOO_LARGE, "The request's head is too large.")
        if not self._in_head and (data or skipped):
            self._in_head = True
            self.expect(self.live.state.pace.head, head_too_slow)

    def _feed_body(self, body: StreamReader) -> None:
        """Goes on with a body by what came: past the parser, or by a slice."""
        if self._bypass.left:
            self._pass_parser_by(body)
            return
        size, chunks = body.total_bytes, _chunks_of(body)
        data = self._feed(SLICE if self.is_coded else max(1, min(_SMALL, self._body_left)))
        self._body_left -= len(data)
        size, chunks = body.total_bytes - size, _chunks_of(body) - chunks
        self._turn.spend(len(data), chunks)
        self.body_wire += len(data)
        if self.is_coded and self._coding.is_wasteful(len(data), size, chunks):
            raise refuse(Reason.BODY_MALFORMED, "The body's chunks are too small: send 64 bytes or more in each.")

    def _pass_parser_by(self, body: StreamReader) -> None:
        """Feeds the body. What comes behind its end is for a new parser: the old one still waits for the body."""
        piece = self._bypass.take(self._backlog.take(min(_PIECE, self._bypass.left)))
        self._turn.spend(len(piece))
        self.body_wire += len(piece)
        body.feed_data(piece)
        if not self._bypass.left:
            self._parser = self._new_parser()
            body.feed_eof()

    def _new_parser(self) -> HttpRequestParser:
        """A parser as aiohttp makes it for a new connection."""
        return HttpRequestParser(
            self,
            self._loop,
            _READ_SIZE,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by a body that was read: nothing is to be done unless it had asked for a pause."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, error: BaseException | None) -> None:
        """Called by the loop, once."""
        self.is_gone = True
        super().connection_lost(error)
        self._body = None
        self._backlog.clear()
        self.on_writable = None
        if self._drive is None:
            self._on_end(self)
        elif self._iteration.is_over:  # many may be lost at once, and each ends an exchange
            self._iteration.wait(self._end_lost, self.household, is_small=True)
        else:
            self._turn.work()
            self._end_lost()
            self._turn.rest()

    def _end_lost(self) -> None:
        if not self.finishes_alone:
            self.interrupt(ClientGone("The client closed the connection."))

    def pause_writing(self) -> None:
        """Called by the loop when more is written than the client takes."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._paused = False
        if self.on_writable is not None:
            self.on_writable()
        elif self.writable.is_awaited:
            self.writable.set()

    def sweep(self, now: float) -> None:
        """Ends the present wait when its time is over or its bytes come too slowly; `now` is the loop's time.

        The connection itself retires when its own time is over. While what came waits for its turn with us, no time
        of the client's passes.
        """
        has_sent_ahead = self._buffer_paused and not self._reading_body and not self._waits_for_us
        if self._tls is not None and self._tls.has_left(or_says_no_more=has_sent_ahead):
            self._tls.abort()
            return
        if now >= self.ends_at:
            self.ends_at = _FOREVER
            self.retire()
        if self._waits_for_us:
            self.deadline += TICK
            self._window_ends += TICK
            return
        if self._paused and not self._reading_body:
            taken = self._taken()
            if taken != self._last_progress:
                self._last_progress = taken
                self.deadline = now + self.live.state.pace.send_idle
        if self._is_overdue(now):  # many may be, in one sweep
            self._iteration.wait(partial(self._end_wait, now), self.household, is_small=True)

    @property
    def _waits_for_us(self) -> bool:
        return self._my_turn.is_awaited or (self._tls is not None and self._tls.waits)

    def _is_overdue(self, now: float) -> bool:
        return now >= self.deadline or (now >= self._window_ends and self._is_too_slow(now))

    def _end_wait(self, now: float) -> None:
        """Ends the wait that was overdue then, if it has not ended meanwhile."""
        if not self._is_overdue(now):
            return
        self.expect_nothing()
        if self._drive is None:
            self.abort()  # it was closed, but what was written is not taken
        else:
            self._drive.interrupt(self._late())

    # The loop of one connection

    async def start(self) -> None:
        """Serves the requests of this connection one after the other; overrides aiohttp's loop of two tasks."""
        self.expect(self.live.state.pace.head, Idle)
        while not self.is_last and not self.is_closing:
            request, body = await self._next_request()
            await self._serve(self, request, body)
            if self._paused:
                await self.writable_again()
            self._body = None
            self._is_unread = isinstance(request, Refused) or not body.is_eof()
            self.expect(self.live.state.pace.idle, Idle)
            if self._has_more:  # others have their turn between two requests that were sent in one piece
                await self._wait_for_turn()
        await self.taken()  # closing has a deadline, but no such patience

    async def _next_request(self) -> tuple[Request, StreamReader]:
        self._is_between = not self.is_coded  # else the parser may hold some of the next head
        self.is_coded = False
        try:
            await self._until_message()
        except Refused as refused:  # the head is too slow or too large: it is answered, then the connection closes
            return refused, EMPTY_PAYLOAD
        finally:
            self._in_head = False
            self.deadline = _FOREVER
        self.request_count += 1
        if self._is_again and self._repeated is not None:
            self._is_again = False
            return self._repeated, EMPTY_PAYLOAD
        self._bypass.begin(self._head, self._head_bytes)
        head, self._head, self._head_bytes, self._empty_bytes = self._head, b"", 0, 0
        message, self._body = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if isinstance(message, _ErrInfo):
            return parser_fault(message.exc), self._body
        if message.method == hdrs.METH_CONNECT:
            self.is_last = True  # aiohttp takes what follows it for another protocol's, and drops it
        self._begin_body(self._body, is_coded=message.chunked)
        self._body_left = int(message.headers.get("Content-Length", 0))
        if not self.is_coded and not self._body.is_eof() and len(self._backlog) <= _SMALL:
            self._feed_body(
                self._body
            )  # so that a small body that is here counts as read, and its connection goes on
        if message.version == HttpVersion10 and not ends_in_http_1_0(head):
            return refuse(Reason.BAD_REQUEST, "The request line does not say HTTP/1.0 or HTTP/1.1."), self._body
        if self._body.is_eof():
            self._listen()
        if self._body is EMPTY_PAYLOAD and not self._has_more and is_whole_head(head, message):
            self._again, self._repeated = head, message
        return message, self._body

    def _begin_body(self, body: StreamReader, *, is_coded: bool) -> None:
        self.is_coded = is_coded
        self.body_wire = 0
        self._coding = Coding()
        self._turn.spend(0, _chunks_of(body))

    async def _until_message(self) -> None:
        """Waits for the next head.

        Raises:
            Refused: it is too slow or too large.
            Idle: none came, or it is not heard any more.
        """
        self._turn.work()
        while not self._messages and not self._is_again:
            if self._turn.is_over:
                await self._let_others_have_a_turn()
                if self.is_closing and not (self.is_revoked and self._in_head):
                    raise Idle
            if self._is_deaf:
                break
            if self._backlog or self._is_stalled:
                self._feed_head()
            else:
                self._read_on()
                self._turn.rest()
                await self._arrival
                self._turn.work()
        if self._is_deaf:
            raise Idle

    def _ended(self, error: BaseException | None) -> None:
        self._drive = None
        if self.transport is not None:
            # Meanwhile TLS reads on, into the void, and has no bound but this.
            self.expect(_LINGERING if self._is_unread else self.live.state.pace.send_idle, Idle)
            if isinstance(error, ClientTooSlow):
                self.transport.abort()
            else:
                self.transport.close()
        if self.is_gone:
            self._on_end(self)
        if error is not None and not isinstance(error, GatewayError):
            self._loop.call_exception_handler({"message": "A connection's loop failed", "exception": error})

    def _taken(self) -> int:
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return self._written - unsent

    def _open_window(self, seconds: float, bytes_so_far: int) -> None:
        self._window_ends = self._loop.time() + seconds
        self._window_bytes = bytes_so_far

    def _is_too_slow(self, now: float) -> bool:
        pace = self.live.state.pace
        seconds = pace.body_idle if self._reading_body else pace.send_idle
        so_far = self._body.total_bytes if self._reading_body and self._body is not None else self._taken()
        if so_far - self._window_bytes < pace.min_rate * seconds:
            return True
        self._window_ends = now + seconds
        self._window_bytes = so_far
        return False


def _chunks_of(body: StreamReader) -> int:
    """In how many chunks that is which a body was given and has not given out."""
    splits = None if body is EMPTY_PAYLOAD else body._http_chunk_splits  # noqa: SLF001 -- see the file's head
    return 0 if splits is None else len(splits)
