"""Reads one answer from the upstream's bytes: head, body, end, and surplus bytes. No I/O.

The upstream is hostile input. httptools' strict parser checks every byte of a head; a body of known length bypasses
it once the head is read, and is only counted. Heads that were read before are recognized by their bytes.

The parser skips line ends between two answers, and does not say so. So it gets no more than a head at once, and of a
chunked body the last bytes are looked at: line ends after an answer are surplus like all else.
"""

from collections.abc import Callable
from typing import Final

import httptools

from gateway.errors import UpstreamBrokeOff
from gateway.http.headers import MAX_HEAD_BYTES
from gateway.model.statuses import MAX_INTERIM
from gateway.upstream.response_head import FIRST_FINAL, ResponseHead, read_answer_head

_MAX_KNOWN_HEADS: Final = 256
_MAX_KNOWN_BYTES: Final = 4096  # of each: what is made of it is as long, several times
_MAX_CODING_BYTES: Final = MAX_HEAD_BYTES + 262_144
_FIRST_INTERIM: Final = 100
_HEAD_END: Final = b"\r\n\r\n"
_LINE_ENDS: Final = b"\r\n"
_TOO_MANY: Final = len(_HEAD_END) + 1  # line ends in a row: a chunked body ends with four, after another byte


class AnswerReader:
    """Reads answers one after the other: `begin`, then `take` until `is_whole`.

    `known` caches heads by their bytes; all connections to one upstream share it. `deliver` gets the body's pieces.
    """

    __slots__ = (
        "_bodiless",
        "_coding_bytes",
        "_deliver",
        "_head_bytes",
        "_head_tail",
        "_headers",
        "_interim",
        "_known",
        "_left",
        "_parser",
        "_phrase",
        "_pieces",
        "_tail",
        "chunk_count",
        "has_surplus",
        "head",
        "is_whole",
    )

    def __init__(self, known: dict[bytes, ResponseHead], deliver: Callable[[bytes], None]) -> None:
        self._known = known
        self._deliver = deliver
        self._parser: httptools.HttpResponseParser | None = None
        self.begin(bodiless=False)

    def begin(self, *, bodiless: bool) -> None:
        """Prepares for an answer; `bodiless` if the request is a HEAD."""
        self.head: ResponseHead | None = None
        self.is_whole = False
        self.has_surplus = False
        self.chunk_count = 0
        self._bodiless = bodiless
        self._headers: list[tuple[bytes, bytes]] = []
        self._phrase = b""
        self._interim = 0
        self._head_bytes = 0
        self._head_tail = b""  # its last three bytes: the mark of its end may be cut between two reads
        self._tail = b""  # the last bytes of a chunked body
        self._coding_bytes = 0
        self._left: int | None = None
        self._pieces: list[bytes] = []

    @property
    def has_arrived(self) -> bool:
        """Whether any byte of the answer arrived."""
        return self._head_bytes > 0

    @property
    def is_counted(self) -> bool:
        """Whether the body is only counted, not parsed: then its cost does not depend on its content."""
        return self.head is not None and self._left is not None

    @property
    def lasts_until_close(self) -> bool:
        """Whether the answer ends when the connection does."""
        return self.head is not None and self.head.length is None and not self.head.chunked

    def take(self, data: bytes) -> None:
        """Takes the next bytes.

        Raises:
            UpstreamBrokeOff: the bytes are not a valid answer.
        """
        if self.head is None:
            self._take_head(data)
        elif self._left is not None:
            self._take_counted(data)
        else:
            self._take_parsed(data)
            self._note_end(data)

    def close(self) -> None:
        """Releases the parser, which refers to this object, and who gets the body, who has it."""
        self._parser = None
        self._deliver = _drop

    # The parser's side

    def on_status(self, phrase: bytes) -> None:
        """Called by httptools with a part of the reason phrase."""
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each header, and for each trailer; trailers are dropped."""
        if self.head is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by httptools at the end of each head, also of interim answers."""
        parser = self._parser
        if parser is None or self.head is not None:
            return
        status = parser.get_status_code()
        if _FIRST_INTERIM <= status < FIRST_FINAL:
            return
        version = parser.get_http_version()
        self.head = read_answer_head(
            status, self._phrase, self._headers, http_1_1=version == "1.1", bodiless=self._bodiless
        )
        self._left = self.head.length

    def on_body(self, data: bytes) -> None:
        """Called by httptools for each piece of a body."""
        self._coding_bytes = 0
        self.chunk_count += 1
        if self.head is None:
            # llhttp accepts an interim answer's body if its headers announce one. None may have one (RFC 9110 15.2).
            raise UpstreamBrokeOff("The upstream sent an interim answer with a body.", arrived=True)
        if self._left is not None:
            if len(data) > self._left:
                raise _more_than_an_answer()
            self._left -= len(data)
        self._pieces.append(data)

    def on_message_begin(self) -> None:
        """Called by httptools; a message after the final answer belongs to no request."""
        if self.is_whole:
            raise _more_than_an_answer()

    def on_message_complete(self) -> None:
        """Called by httptools at the end of each answer, also of interim ones."""
        if self.head is not None:
            self.is_whole = True
            return
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise UpstreamBrokeOff("The upstream sends interim answers without end.", arrived=True)
        self._headers = []
        self._phrase = b""

    # Within

    def _take_head(self, data: bytes) -> None:
        end = data.find(_HEAD_END) + len(_HEAD_END)
        # llhttp skips empty lines before a head; find() would take the first one for the end of the head.
        is_first = self._head_bytes == 0 and not self._bodiless and data.startswith(b"HTTP/1.")
        known = self._known.get(data[:end]) if is_first else None
        if known is not None:
            self._head_bytes = end
            self.head = known
            self._left = known.length
            if len(data) > end or self._left == 0:
                self._take_counted(data[end:])
            return
        if end > MAX_HEAD_BYTES:
            raise _too_large()
        rest = self._take_heads(data)
        if rest:
            self.take(rest)
        if self.head is None and self._head_bytes > MAX_HEAD_BYTES:
            raise _too_large()
        is_short = is_first and end <= _MAX_KNOWN_BYTES
        if is_short and self.head is not None and self.head.length is not None and not self._interim:
            self._remember(data[:end], self.head)

    def _take_heads(self, data: bytes) -> bytes:
        """Gives the parser one head after the other, up to the final one; returns what follows it."""
        while data and self.head is None:
            size = self._head_through(data)
            self._head_bytes += size
            self._take_parsed(data[:size])
            data = data[size:]
        return data

    def _head_through(self, data: bytes) -> int:
        """How many bytes reach through the end of a head, which may have begun in an earlier read; else all."""
        before = self._head_tail
        empty = 0 if before else len(data) - len(data.lstrip(_LINE_ENDS))  # the parser skips them before a head
        place = (before + data[empty:]).find(_HEAD_END)
        if place < 0:
            self._head_tail = (before + data[empty:])[1 - len(_HEAD_END) :]
            return len(data)
        self._head_tail = b""
        return empty + place + len(_HEAD_END) - len(before)

    def _note_end(self, data: bytes) -> None:
        """Finds line ends after a chunked body, which the parser has skipped."""
        self._tail = (self._tail + data[-_TOO_MANY:])[-_TOO_MANY:]
        if self.is_whole and len(self._tail) == _TOO_MANY and not self._tail.strip(_LINE_ENDS):
            self.has_surplus = True

    def _remember(self, head_bytes: bytes, head: ResponseHead) -> None:
        if len(self._known) >= _MAX_KNOWN_HEADS:
            self._known.clear()
        self._known[head_bytes] = head

    def _take_parsed(self, data: bytes) -> None:
        self._feed(data)
        self._hand_over()
        if self.head is None or self.is_whole:
            return
        if self._coding_bytes > _MAX_CODING_BYTES:
            # Endless chunk extensions or trailers, which the parser would collect.
            raise UpstreamBrokeOff("The upstream's answer goes on without a body.", arrived=True)
        if self._bodiless or self._left is not None:
            self._parser = None  # it waits for a body that this answer does not have, or that is now only counted
            self.is_whole = self._bodiless or self._left == 0

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
        self._coding_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parser = None
            if not self.is_whole and not (self._bodiless and self.head is not None):
                raise _failure_of(error) from None
            # Bytes after the answer are not part of it, but must not reach the next request either.
            self.is_whole = self.has_surplus = True

    def _hand_over(self) -> None:
        """Delivers all pieces of one read as one: an upstream's tiny chunks must cause no tiny writes to clients."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
            self._deliver(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _take_counted(self, data: bytes) -> None:
        left = self._left or 0
        if len(data) < left:
            self._left = left - len(data)
            self._deliver(data)
            return
        self._left = 0
        self.is_whole = True
        self.has_surplus = len(data) > left
        if left:
            self._deliver(data[:left])


def _drop(_: bytes) -> None:
    """Takes what comes after the end."""


def _too_large() -> UpstreamBrokeOff:
    return UpstreamBrokeOff("The head of the upstream's answer is too large.", arrived=True)


def _more_than_an_answer() -> UpstreamBrokeOff:
    return UpstreamBrokeOff("The upstream sent more than its answer.", arrived=True)


def _failure_of(error: Exception) -> UpstreamBrokeOff:
    cause = error.__context__  # httptools wraps what our callbacks raise
    if isinstance(cause, UpstreamBrokeOff):
        return cause
    return UpstreamBrokeOff("The upstream's answer is not valid HTTP.", arrived=True)
