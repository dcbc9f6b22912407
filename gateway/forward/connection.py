"""One connection to the upstream: a request's bytes out, a checked answer in.

The upstream is hostile input. Every byte of a head passes httptools' strict parser; a body of known length passes it
by once the head is read, counted against that length; an error, a surplus byte or an early end makes the connection
unusable, and the exchange is told with a reason. Back-pressure goes both ways: the body is handed to one sink, which
may pause the reading, and `send` says when writing should wait.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import httptools

from gateway.drive import Signal
from gateway.errors import UpstreamBrokeOff, UpstreamFailed
from gateway.forward.answer import MOST_HEAD_BYTES, AnswerHead, read_answer_head

_MOST_INTERIM: Final = 8
_FIRST: Final = 100
_FIRST_FINAL: Final = 200
_HELD: Final = 131_072
_MOST_SEEN: Final = 256
_HIGH_WATER: Final = 262_144
_READ_SIZE: Final = 262_144
_TURN: Final = 524_288


class Sink(Protocol):
    """Takes the body of an answer, in order and whole pieces."""

    def take(self, data: bytes) -> None:
        """Takes the next bytes of the body."""


class UpstreamConnection(asyncio.Protocol):
    """Carries one exchange at a time: `begin`, then `send`, `answered`, and the body by `flow` or `held`."""

    __slots__ = (
        "_bodiless",
        "_bodiless_bytes",
        "_head_bytes",
        "_headers",
        "_held_bytes",
        "_in_turn",
        "_interim",
        "_is_announced",
        "_left",
        "_left_open",
        "_parser",
        "_phrase",
        "_reading_paused",
        "_released",
        "_seen",
        "_sink",
        "_spoiled",
        "_turn_is_over",
        "answered",
        "body_ended",
        "failure",
        "finished",
        "head",
        "held",
        "idle_since",
        "on_early",
        "on_lost",
        "reused",
        "transport",
        "writable",
        "writing_paused",
    )

    def __init__(self, on_lost: Callable[["UpstreamConnection"], None], seen: dict[bytes, AnswerHead]) -> None:
        self.transport: asyncio.Transport | None = None
        self.on_lost = on_lost
        self._seen = seen
        self.idle_since = 0.0
        self.reused = False
        self.writing_paused = False
        self.writable = Signal()
        self.answered = Signal()
        self.finished = Signal()
        self._parser: httptools.HttpResponseParser | None = None
        self._reading_paused = False
        self._turn_is_over = False
        self._in_turn = 0
        self._released = True
        self._spoiled = False
        self._reset(bodiless=False)

    def _reset(self, *, bodiless: bool) -> None:
        self.head: AnswerHead | None = None
        self.failure: UpstreamFailed | None = None
        self.body_ended = False
        self.answered.clear()
        self.finished.clear()
        self.on_early: Callable[[], None] | None = None
        self.held: list[bytes] = []
        self._held_bytes = 0
        self._sink: Sink | None = None
        self._bodiless = bodiless
        self._headers: list[tuple[bytes, bytes]] = []
        self._phrase = b""
        self._interim = 0
        self._is_announced = False
        self._head_bytes = 0
        self._bodiless_bytes = 0
        self._left: int | None = None
        self._left_open = False

    # The exchange's side

    def begin(self, *, bodiless: bool) -> None:
        """Makes ready for one exchange; `bodiless` when the request is a HEAD."""
        self._reset(bodiless=bodiless)
        self._released = False
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)

    def send(self, data: bytes) -> None:
        """Writes bytes of the request; they are lost silently once the connection is, which `answered` tells."""
        if self.transport is not None:
            self.transport.write(data)

    def send_all(self, pieces: tuple[bytes, ...]) -> None:
        """Writes pieces one behind the other, without a copy to join them; as `send`."""
        if self.transport is not None:
            self.transport.writelines(pieces)

    def flow(self, sink: Sink) -> None:
        """Hands the body, from its first byte on, to a sink."""
        self._sink = sink
        held, self.held = self.held, []
        for data in held:
            sink.take(data)
        self.resume()

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
                self.transport.resume_reading()

    def break_off(self, failure: UpstreamFailed) -> None:
        """Ends the exchange with a failure of our finding."""
        self._fail(failure)

    def forget(self) -> None:
        """Ends the exchange for the connection: it holds nothing of it any more."""
        self._released = True
        self._sink = None
        self.on_early = None
        self.held = []

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange may follow: the answer ended whole and the upstream means to stay."""
        return (
            self.transport is not None
            and not self._spoiled
            and not self._reading_paused
            and self.failure is None
            and self.body_ended
            and self.head is not None
            and self.head.reusable
        )

    def abort(self) -> None:
        """Closes the connection at once, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = transport  # type: ignore[assignment] # a stream transport: create_connection makes no other
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)  # type: ignore[union-attr] # set the line before

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the next bytes of the answer."""
        self._in_turn += len(data)
        if self._in_turn >= _TURN and self.transport is not None and not self._turn_is_over:
            self._end_turn(self.transport)
        if self._released or self.failure is not None or self.body_ended:
            self._surplus()
        elif self.head is None:
            self._take_head(data)
        elif self._left is not None:
            self._take_counted(data)
        else:
            self._take_parsed(data)

    def _end_turn(self, transport: asyncio.Transport) -> None:
        """Lets others have a turn: libuv would go on while there is more, 8 MB at a time."""
        self._turn_is_over = True
        if not self._reading_paused:
            transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._turn_is_over = False
        self._in_turn = 0
        if self.transport is not None and not self._reading_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """Called by the loop; the transport then closes."""

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop: an answer that lasts until the end of the connection is whole, any other is broken."""
        self.transport = None
        self._parser = None
        if not self._released and self.failure is None and not self.body_ended:
            if self._left_open and error is None:
                self._end_body()
            else:
                self._fail(UpstreamBrokeOff("The upstream closed the connection midway.", arrived=self._has_arrived))
        self.writing_paused = False
        self.writable.set()
        self.on_lost(self)

    def pause_writing(self) -> None:
        """Called by the loop when more is written than the upstream takes."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self.writing_paused = False
        self.writable.set()

    # The parser's side

    def on_status(self, phrase: bytes) -> None:
        """Called by httptools with (a part of) the reason phrase."""
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each header, and for each trailer, which is dropped."""
        if self.head is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by httptools at the end of a head, interim ones included."""
        parser = self._parser
        if parser is None or self.head is not None:
            return
        status = parser.get_status_code()
        if _FIRST <= status < _FIRST_FINAL:
            return
        version = parser.get_http_version()
        self.head = read_answer_head(
            status, self._phrase, self._headers, http_1_1=version == "1.1", bodiless=self._bodiless
        )
        self._left = self.head.length
        self._left_open = self._left is None and not self.head.chunked

    def on_body(self, data: bytes) -> None:
        """Called by httptools for each piece of a body."""
        self._bodiless_bytes = 0
        if self.head is None:
            # llhttp gives an interim answer a body when its headers say so. None has one (RFC 9110 15.2).
            raise UpstreamBrokeOff("The upstream sent an interim answer with a body.", arrived=True)
        if self._left is None:
            self._deliver(data)
        elif len(data) <= self._left:
            self._left -= len(data)
            self._deliver(data)
        else:
            raise UpstreamBrokeOff("The upstream sent more than its answer.", arrived=True)

    def on_message_begin(self) -> None:
        """Called by httptools; an answer behind the final one is what nobody asked for."""
        if self.body_ended:
            raise UpstreamBrokeOff("The upstream sent more than its answer.", arrived=True)

    def on_message_complete(self) -> None:
        """Called by httptools at the end of an answer, interim ones included."""
        if self.head is not None:
            self.body_ended = True
            return
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise UpstreamBrokeOff("The upstream sends interim answers without end.", arrived=True)
        self._headers = []
        self._phrase = b""

    # Within

    @property
    def _has_arrived(self) -> bool:
        return self._head_bytes > 0

    def _take_head(self, data: bytes) -> None:
        """Takes the first bytes of an answer: a head that was parsed before is known by its bytes."""
        end = data.find(b"\r\n\r\n") + 4
        # llhttp skips empty lines before a head; the first one would be taken for its end here.
        is_whole = self._head_bytes == 0 and not self._bodiless and data.startswith(b"HTTP/1.")
        known = self._seen.get(data[:end]) if is_whole else None
        if known is not None:
            self._head_bytes = end
            self.head = known
            self._left = known.length
            if len(data) > end or self._left == 0:
                self._take_counted(data[end:])
            self._announce()
            return
        if end > MOST_HEAD_BYTES:
            self._fail(_too_large())
            return
        self._take_parsed(data)
        if is_whole and self.head is not None and self.head.length is not None:
            self._remember(data[:end], self.head)

    def _remember(self, head_bytes: bytes, head: AnswerHead) -> None:
        if self._interim or self.failure is not None:
            return
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[head_bytes] = head

    def _take_parsed(self, data: bytes) -> None:
        was_headless = self.head is None
        if was_headless:
            self._head_bytes += len(data)
        self._bodiless_bytes += len(data)
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr] # begin() made it; only connection_lost drops it
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.body_ended:
                self._end_or_fail(_failure_of(error))
                return
            self._surplus()
        if self.head is not None and not self.body_ended and self._bodiless_bytes > MOST_HEAD_BYTES + _READ_SIZE:
            # Chunk extensions or trailers without end, which the parser would gather.
            self._fail(UpstreamBrokeOff("The upstream's answer goes on without a body.", arrived=True))
            return
        self._progress(was_headless=was_headless)

    def _end_or_fail(self, failure: UpstreamFailed) -> None:
        """What follows an answer that has no body is no part of it, but must not reach the next request either."""
        if self._bodiless and self.head is not None:
            self.body_ended = True
            self._surplus()
            self._announce()
        else:
            self._fail(failure)

    def _progress(self, *, was_headless: bool) -> None:
        if self.head is None:
            if self._head_bytes > MOST_HEAD_BYTES:
                self._fail(_too_large())
            return
        if not self.body_ended and (self._bodiless or self._left == 0):
            self._parser = None  # the parser waits for a body that this answer has not
            self.body_ended = True
        elif not self.body_ended and self._left is not None:
            self._parser = None  # the rest is counted, not parsed
        if was_headless:
            self._announce()
        elif self.body_ended:
            self.finished.set()

    def _take_counted(self, data: bytes) -> None:
        left = self._left or 0
        if len(data) < left:
            self._left = left - len(data)
            self._deliver(data)
            return
        self._left = 0
        self._deliver(data[:left])
        if len(data) > left:
            self._surplus()
        self._end_body()

    def _deliver(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.take(data)
            return
        self.held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HELD:
            self.pause()

    def _end_body(self) -> None:
        self.body_ended = True
        self.finished.set()

    def _surplus(self) -> None:
        # Bytes that no request asked for: whatever they are, the next request must not get them as its answer.
        self._spoiled = True
        self.abort()

    def _fail(self, failure: UpstreamFailed) -> None:
        self.failure = failure
        self._parser = None
        self.abort()
        if self._is_announced:
            self.finished.set()
        else:
            self._announce()

    def _announce(self) -> None:
        self._is_announced = True
        early, self.on_early = self.on_early, None
        self.answered.set()
        if early is not None:
            early()


def _too_large() -> UpstreamBrokeOff:
    return UpstreamBrokeOff("The head of the upstream's answer is too large.", arrived=True)


def _failure_of(error: Exception) -> UpstreamBrokeOff:
    cause = error.__context__  # what a callback of ours raised, httptools wraps
    if isinstance(cause, UpstreamBrokeOff):
        return cause
    return UpstreamBrokeOff("The upstream's answer is not valid HTTP.", arrived=True)
