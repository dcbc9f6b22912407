"""One connection to the upstream: a request's bytes out, a checked answer in.

Theory of operation. Where both sides stand is kept by the two state machines of states.py.

- `ask` sends a head (ours: IDLE -> SENDING_HEAD -> SENDING_BODY, or DONE without a body; theirs: IDLE -> HEAD);
  `send` and `send_end` send the body, framed here as the head announced it, so that nobody else can say of a request
  that was sent in part that it was sent whole.
- What comes is read by response_reader.py; by what it found `_advance` and `_end_answer` move theirs: HEAD -> BODY ->
  DONE. `answered` is set at the head, `finished` at the end; a fault sets the one that is still to come, with
  `failure`. The body goes to one sink, which may pause the reading; what comes before there is one is held, up to a
  bound.
- The body may still be on its way when the answer begins: it goes on, for the upstream may need it to finish. When
  the answer ends first, the connection closes at once: the rest of that body must not be taken for the next request.
- Bytes that belong to no answer close the connection. So do an early end, and anything that is not HTTP.
- What comes is taken in turns (answer_turns.py): what is left over waits for the next turn of the loop.

A connection carries another request only when its states say so and nothing that came is still to be looked at:
`is_reusable`, then `recycle`.
"""

import asyncio
import select
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.aio.reset import reset_at_end
from gateway.aio.tls.transport import TlsTransport
from gateway.errors import UpstreamBrokeOff, UpstreamFailed
from gateway.upstream.answer_turns import READ, AnswerTurns
from gateway.upstream.body_sink import BodySink
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.response_reader import AnswerReader
from gateway.upstream.states import States

_MAX_HELD_BYTES: Final = 131_072
_HIGH_WATER: Final = 262_144


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange at a time: `ask`, `send`, `answered`, `head_or_failure`; the body by `flow` or `held`."""

    __slots__ = (
        "_is_announced",
        "_iteration",
        "_kernel",
        "_known",
        "_on_early",
        "_on_lost",
        "_reader",
        "_sink",
        "_states",
        "_turns",
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
        self._iteration = iteration
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
        self._turns.peer = peer
        if isinstance(self.transport, TlsTransport):
            self.transport.peer = peer
        self.failure = None
        self.answered.clear()
        self.finished.clear()
        self._on_early = None
        self.held = bytearray()
        self._sink = None
        self._is_announced = self._turns.looks_inside = False
        self._turns.behind = None
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
        return self._states.is_answered and len(self.held) <= READ

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
        self._turns.looks_inside = looks_inside
        while self.held:
            held, self.held = bytes(self.held), bytearray()
            if looks_inside:
                await self._turns.hand_on(held, sink.take)
            else:
                self._turns.behind = sink.take(held)
        self._sink = sink
        self.resume()
        if not self.is_answered and self.failure is None:
            await self.finished
        if self.failure is not None:
            raise self.failure

    def pause(self) -> None:
        """Stops reading from the upstream until `resume`."""
        self._turns.pause()

    def resume(self) -> None:
        """Reads on."""
        self._turns.resume()

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
            and not self._turns.is_paused
            and not self._has_unread
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0  # what was not taken might be what nobody will take
        )

    @property
    def _has_unread(self) -> bool:
        """Whether more may have come than was looked at, in this connection or below it."""
        transport = self.transport
        return (isinstance(transport, TlsTransport) and transport.has_unread) or self._turns.has_unread

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
        # Both hold this, until the end that follows from here.
        self._reader = AnswerReader(self._known, self._deliver)
        self._turns = AnswerTurns(self._iteration, self.transport, self._reader, self._take)  # type: ignore[arg-type]
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)  # type: ignore[union-attr] # set the line before
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._kernel = select.poll()
            self._kernel.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the next bytes of the answer."""
        self._turns.add(data)

    def eof_received(self) -> None:
        """Called by the loop; the transport then closes."""

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: an answer that lasts until the end of the connection is whole, any other is broken."""
        self._turns.lose(reads_rest=error is not None and self._states.is_answering)
        self.transport = None
        self._states.lose()
        self._turns.finish(partial(self._end, error))

    def _end(self, error: Exception | None) -> None:
        """All that came was taken."""
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
        """Called by the loop. Many uploads may go on at the same moment: those for which there is no time wait."""
        self.writing_paused = False
        iteration = self._iteration
        if iteration.is_over:
            iteration.call_in_turn(self.writable.wake, self._turns.peer)
        else:
            begun = iteration.clock()
            self.writable.wake()
            iteration.add(iteration.clock() - begun, 0)

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
            self._turns.behind = self._sink.take(data)
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
        self._sink = self._turns.behind = None
        self._on_early = None
        self.held = bytearray()

    def _cut(self) -> None:
        self._turns.drop()
        if self.transport is not None:
            self.transport.abort()
