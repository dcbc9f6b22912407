"""One connection to the upstream: a request's bytes out, a checked answer in.

Theory of operation. Where both sides stand is kept by the two state machines of states.py, and by nothing else.

- `ask` sends a head (ours: IDLE -> SENDING_HEAD -> SENDING_BODY, or DONE without a body; theirs: IDLE -> HEAD);
  `send` and `send_end` send the body, framed here as the head announced it, so that nobody else can say of a request
  that was sent in part that it was sent whole.
- What comes is read by response_reader.py, which moves theirs: HEAD -> BODY -> DONE. `answered` is set at the head,
  `finished` at the end; a fault sets both, with `failure`. The body goes to one sink, which may pause the reading;
  what comes before there is one is held, up to a bound.
- The body may still be on its way when the answer begins: it goes on, for the upstream may need it to finish. When
  the answer ends first, the connection closes at once: the rest of that body must not be taken for the next request.
- Bytes that belong to no answer close the connection. So do an early end, and anything that is not HTTP.
- A turn of the loop reads a bounded number of bytes and of chunks, and for so long; what is left over waits for the
  next turn. What the parser or the sink looks into comes in slices: what it costs may depend on what it says.

A connection carries another request only when its states say so and nothing that came is still to be looked at:
`is_reusable`, then `recycle`.
"""

import asyncio
import select
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, Protocol

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.aio.reset import reset_at_end
from gateway.aio.tls.transport import TlsTransport
from gateway.aio.turn import SLICE, Turn
from gateway.aio.unread import read_unread
from gateway.errors import UpstreamBrokeOff, UpstreamFailed
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.response_reader import AnswerReader
from gateway.upstream.states import States

_MAX_HELD_BYTES: Final = 131_072
_READ: Final = 16_384  # bytes of a body that a sink reads at once: two milliseconds of the costliest JSON
_ALL: Final = 0
_HIGH_WATER: Final = 262_144


class BodySink(Protocol):
    """Takes the body of an answer, in order and whole pieces."""

    def take(self, data: bytes) -> None:
        """Takes the next bytes of the body."""


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange at a time: `ask`, `send`, `answered`, `head_or_failure`; the body by `flow` or `held`."""

    __slots__ = (
        "_backlog",
        "_has_more",
        "_is_announced",
        "_iteration",
        "_kernel",
        "_known",
        "_looks_inside",
        "_on_early",
        "_on_lost",
        "_peer",
        "_reader",
        "_reading_paused",
        "_sink",
        "_states",
        "_turn",
        "_turn_is_over",
        "answered",
        "failure",
        "finished",
        "held",
        "idle_since",
        "transport",
        "writable",
        "writing_paused",
    )

    def __init__(
        self, on_lost: Callable[["UpstreamConnection"], None], known: dict[bytes, ResponseHead], iteration: Iteration
    ) -> None:
        self.transport: asyncio.Transport | TlsTransport | None = None
        self.idle_since = 0.0
        self.writing_paused = False
        self.writable = Signal()
        self.answered = Signal()
        self.finished = Signal()
        self.failure: UpstreamFailed | None = None
        self._on_early: Callable[[], None] | None = None
        self.held = bytearray()  # not a list: an upstream may send one byte a piece
        self._on_lost = on_lost
        self._states = States()
        self._known = known
        self._sink: BodySink | None = None
        self._is_announced = False
        self._looks_inside = False
        self._reading_paused = False
        self._backlog = b""
        self._has_more = False
        self._iteration = iteration
        self._turn = Turn(iteration)
        self._turn_is_over = False
        self._peer: Hashable = None
        self._kernel: select.poll | None = None

    def __repr__(self) -> str:
        states = repr(self._states)[1:-1].partition(" ")[2]
        return f"<UpstreamConnection {states}{' lost' if self.transport is None else ''}>"

    # The exchange's side

    def ask(self, head: bytes, body_length: int | None, *, bodiless: bool, peer: Hashable = None) -> None:
        """Begins an exchange and sends the request's head.

        `body_length` is what the head says of the body: bytes, 0 for none, None for chunks. `bodiless` says that
        the answer has no body, whatever its head says: the request is a HEAD. `peer` is whom it is for.

        Raises:
            UpstreamBrokeOff: the upstream closed the connection meanwhile, or spoke first.
            StateError: another exchange is under way.
        """
        if self.transport is None or self._states.is_closed:
            raise UpstreamBrokeOff("The upstream closed the connection.", arrived=False)
        self._states.begin()
        self._peer = peer
        if isinstance(self.transport, TlsTransport):
            self.transport.peer = peer
        self.failure = None
        self.answered.clear()
        self.finished.clear()
        self._on_early = None
        self.held = bytearray()
        self._sink = None
        self._is_announced = self._looks_inside = False
        self._reader.begin(bodiless=bodiless)
        self.transport.write(head)
        self._states.mark_head_sent(body_length)

    def on_early(self, callback: Callable[[], None] | None) -> None:
        """Calls this when the answer begins, ends or fails while the body is still sent; until the next call."""
        self._on_early = callback

    def send(self, data: bytes) -> None:
        """Sends the next bytes of the body, or drops them when no more of it is wanted (`wants_body`)."""
        states = self._states
        if self.transport is None or not states.is_sending or not data:
            return
        states.mark_body_sent(len(data))
        if states.is_chunked:
            self.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self.transport.write(data)

    def send_end(self) -> None:
        """Sends the end of the body, unless no more of it is wanted."""
        states = self._states
        if self.transport is None or not states.is_sending:
            return
        states.mark_end_sent()
        if states.is_chunked:
            self.transport.write(b"0\r\n\r\n")

    @property
    def wants_body(self) -> bool:
        """Whether the upstream was promised a body whose end has not gone out, and may still need it.

        One that is lost needs none, though its last bytes may wait for their turn.
        """
        transport = self.transport
        is_there = transport is not None and not transport.is_closing()
        return is_there and self._states.is_sending and self.failure is None

    @property
    def is_answered(self) -> bool:
        """Whether the answer came whole."""
        return self._states.is_answered

    @property
    def is_held_whole(self) -> bool:
        """Whether the answer came whole, is held, and is so short that it may be read at once."""
        return self._states.is_answered and len(self.held) <= _READ

    @property
    def head(self) -> ResponseHead | None:
        """The head of the answer, once it came."""
        return self._reader.head

    def head_or_failure(self) -> ResponseHead:
        """The head of the answer, once `answered` is set.

        Raises:
            UpstreamFailed: the exchange has failed.
        """
        head = self._reader.head
        if self.failure is not None or head is None:
            raise self.failure or UpstreamBrokeOff("The upstream gave no answer.", arrived=False)
        return head

    async def flow(self, sink: BodySink, *, looks_inside: bool) -> None:
        """Hands the body, from its first byte on, to a sink, until all of it came.

        `looks_inside`: the sink parses it, or changes it. What that costs is known only afterwards, so it gets a
        little at a time.

        Raises:
            UpstreamFailed: the exchange failed midway.
        """
        self._looks_inside = looks_inside
        while self.held:
            held, self.held = bytes(self.held), bytearray()
            if looks_inside:
                await self._hand_on(held, sink)
            else:
                sink.take(held)
        self._sink = sink
        self.resume()
        if not self.is_answered and self.failure is None:
            await self.finished
        if self.failure is not None:
            raise self.failure

    async def _hand_on(self, data: bytes, sink: BodySink) -> None:
        """Gives a sink that reads what was held; when a turn is over, others have theirs."""
        for start in range(0, len(data), _READ):
            if self._turn.is_over:
                called = Signal()
                self._end_turn()  # its end comes first, so that the connection may be used again
                self._iteration.call_in_turn(called.set, self._peer)
                await called
            self._spend_on(data[start : start + _READ], sink)

    def _spend_on(self, data: bytes, sink: BodySink) -> None:
        turn = self._turn
        is_begun = turn.is_at_work  # the answer's head may just be read
        turn.work()
        sink.take(data)
        turn.spend(len(data))
        if not is_begun:
            turn.rest()

    def pause(self) -> None:
        """Stops reading from the upstream until `resume`."""
        if self.transport is not None and not self._reading_paused:
            self._reading_paused = True
            if not self._turn_is_over:
                self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self.transport is not None and self._reading_paused:
            self._reading_paused = False
            if not self._turn_is_over:
                self._read_on()

    def break_off(self, failure: UpstreamFailed) -> None:
        """Ends the exchange with a failure of our finding."""
        self._fail(failure)

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange may follow: request and answer went whole, and both sides mean to stay."""
        transport = self.transport
        return (
            transport is not None
            and self._states.is_reusable
            and not self._reading_paused
            and not self._has_unread
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0  # what was not taken might be what nobody will take
        )

    @property
    def _has_unread(self) -> bool:
        """Whether more may have come than was looked at: a turn that ended with the answer leaves it unseen."""
        transport = self.transport
        is_behind = isinstance(transport, TlsTransport) and transport.has_unread
        return is_behind or self._has_more or self._turn_is_over or bool(self._backlog)

    @property
    def is_idle(self) -> bool:
        """Whether `ask` may be called: nothing came and nothing was lost since `recycle`."""
        transport = self.transport
        return transport is not None and self._states.is_idle and not self._has_unread and not transport.is_closing()

    @property
    def has_news(self) -> bool:
        """Asks the kernel whether bytes or an end came that the loop has not told of: not for the next request."""
        return self._kernel is not None and bool(self._kernel.poll(0))

    def recycle(self) -> None:
        """Makes a reusable connection ready for another exchange; it holds nothing of the last one any more."""
        self._states.recycle()
        self._let_go()

    def discard(self) -> None:
        """Gives up the exchange, of which nothing more is told, and closes the connection at once."""
        self.failure = None  # raised, it has this in its traceback
        self.reset_if_read()
        self._states.close()
        self._let_go()
        self._cut()

    def reset_if_read(self) -> None:
        """Lets the end that follows keep no port (TIME_WAIT), if the upstream has read all that was sent."""
        if self._states.may_be_reset and self.transport is not None:
            reset_at_end(self.transport)

    def abort(self) -> None:
        """Closes the connection at once, whatever is still to be sent; an exchange under way fails."""
        if self.transport is not None:
            self.transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = transport  # type: ignore[assignment] # a stream transport: create_connection makes no other
        self._reader = AnswerReader(self._known, self._deliver)  # it holds this, until the end that follows from here
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)  # type: ignore[union-attr] # set the line before
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._kernel = select.poll()
            self._kernel.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the next bytes of the answer."""
        if self._backlog:  # a transport may deliver once more after it was told to pause
            self._backlog += data
        elif self._iteration.is_full:  # many may be answered at once
            self._backlog = data
            self._end_turn()
        else:
            self._read(data)

    def eof_received(self) -> None:
        """Called by the loop; the transport then closes."""

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: an answer that lasts until the end of the connection is whole, any other is broken."""
        plain = None if isinstance(self.transport, TlsTransport) else self.transport
        if error is not None and plain is not None and self._states.is_answering:
            self._backlog += read_unread(plain)
        self.transport = None
        self._states.lose()
        if self._iteration.is_over:  # many may be lost at once
            self._iteration.call_in_turn(partial(self._take_last, error), self._peer)
        else:
            self._turn.work()
            self._take_last(error)
            self._turn.rest()

    def _take_last(self, error: Exception | None) -> None:
        """Takes what came before the end and had no turn yet, a slice in each turn, and then the end."""
        piece, self._backlog = self._backlog[:SLICE], self._backlog[SLICE:]
        if piece:
            self._take(piece)
        if self._backlog:
            self._iteration.call_in_turn(partial(self._take_last, error), self._peer)
            return
        if self._states.is_answering:
            if self._reader.lasts_until_close and error is None:
                self._end_answer()
            else:
                arrived = self._reader.has_arrived
                self._fail(UpstreamBrokeOff("The upstream closed the connection midway.", arrived=arrived))
        self._states.close()
        self._reader.close()
        self.writing_paused = False
        self.writable.set()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Called by the loop when more is written than the upstream takes."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self.writing_paused = False
        self.writable.set()

    # Turns

    def _read(self, data: bytes) -> None:
        """Takes what came, as far as this turn of the loop goes; the rest waits for the next turn."""
        turn, size = self._turn, self._size
        if size != _ALL and len(data) > size:
            data = self._read_in_slices(data)
            if data and self._turn_is_over:
                self._backlog = data
                return
        if data:
            self._has_more = False
            turn.work()
            turn.spend(len(data), self._take(data))
            turn.rest()
            if turn.is_over:
                self._end_turn()

    @property
    def _size(self) -> int:
        """How many bytes are taken at once: any, of what is neither parsed nor read."""
        if not self._reader.is_counted:
            return SLICE
        return _READ if self._looks_inside else _ALL

    def _read_in_slices(self, data: bytes) -> bytes:
        """Takes a little at a time, as long as what that costs is known only afterwards; gives what is left."""
        turn, place = self._turn, 0
        turn.work()
        while place < len(data) and (size := self._size) != _ALL:
            piece = data[place : place + size]
            place += len(piece)
            self._has_more = place < len(data)
            turn.spend(len(piece), self._take(piece))
            if turn.is_over:
                self._end_turn()
                break
        turn.rest()
        return data[place:]

    def _end_turn(self) -> None:
        """Lets others have a turn: libuv would go on while there is more, 8 MB at a time."""
        if self.transport is not None and not self._turn_is_over:
            self._turn_is_over = True
            if not self._reading_paused:
                self.transport.pause_reading()
            self._iteration.call_in_turn(self._begin_turn, self._peer)

    def _begin_turn(self) -> None:
        self._turn_is_over = False
        if not self._reading_paused and self.transport is not None:
            self._read_on()

    def _read_on(self) -> None:
        """Takes what waits, then reads on, unless that was too much again."""
        backlog, self._backlog = self._backlog, b""
        if backlog:
            self._read(backlog)
        if self.transport is not None and not (self._turn_is_over or self._reading_paused):
            self.transport.resume_reading()  # also of one that is closing: what came before may wait for that

    # Within

    def _take(self, data: bytes) -> int:
        """Lets the reader take bytes and moves the states on; gives how many chunks were in them."""
        states, reader = self._states, self._reader
        if not states.is_answering:
            self._close_for_surplus()
            return 0
        before = reader.chunk_count
        try:
            reader.take(data)
        except UpstreamBrokeOff as failure:
            self._fail(failure)
            return 0
        head = reader.head
        if head is not None and states.is_answering:  # the sink may have broken the exchange off
            self._advance(head)
        return max(0, reader.chunk_count - before)

    def _advance(self, head: ResponseHead) -> None:
        """Moves their side on, and tells the exchange once all of this read is in the states."""
        reader, is_new = self._reader, not self._is_announced
        if is_new:
            self._states.mark_head_read(keeps=head.reusable)
        if reader.is_whole:
            self._end_answer()
        if is_new:
            self._announce()
        if self._on_early is not None and (is_new or reader.is_whole):
            self._on_early()

    def _end_answer(self) -> None:
        """The answer is whole. What follows it, and a request that is not, end the connection."""
        states = self._states
        states.mark_end_read()
        if self._reader.has_surplus or not states.is_reusable:
            self.reset_if_read()
            states.close()
            self._cut()
        self.finished.set()

    def _deliver(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.take(data)
            return
        self.held += data
        if len(self.held) > _MAX_HELD_BYTES:
            self.pause()

    def _close_for_surplus(self) -> None:
        """Bytes that no request asked for: whatever they are, the next request must not get them as its answer."""
        self._states.close()
        self._cut()

    def _fail(self, failure: UpstreamFailed) -> None:
        self.failure = failure
        self._states.close()
        self._reader.close()
        self._cut()
        if self._is_announced:
            self.finished.set()
        else:
            self._announce()
        if self._on_early is not None:
            self._on_early()

    def _announce(self) -> None:
        self._is_announced = True
        self.answered.set()

    def _let_go(self) -> None:
        self._sink = None
        self._on_early = None
        self.held = bytearray()

    def _cut(self) -> None:
        self._backlog = b""
        if self.transport is not None:
            self.transport.abort()
