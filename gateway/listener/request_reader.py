"""Reads a client's bytes as requests: aiohttp's parser, given no more than is needed.

What of it aiohttp does not promise is in aio/aiohttp_internals.py, where the parser is made. Our own additions:
- the parser gets no more than a head's own bytes at once, for a fault discards all that it was given with it;
- it gets a body in slices, when the body's reader asks; a body of known length bypasses it;
- faults are values among the requests, to be answered like all others;
- a request that repeats the previous one byte for byte is not parsed again.

States, and what ends them:
    between  nothing of the next head has arrived. `feed_head` ends it.
    head     a part of it has. `take` ends it, once the parser or a repetition has yielded a request.
    body     a body may follow, which `feed_body` reads. `begin` ends it: the body is complete.
What can't happen: the parser holds bytes of the next head, except after a chunked body; a turn goes on uncounted,
since the cost of each piece is reported to the Turn.
"""

import asyncio
from collections import deque
from typing import Final

from aiohttp import hdrs
from aiohttp.http import HttpVersion10, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.aio.aiohttp_internals import MAX_LINE, MAX_REQUESTS, MalformedBody, chunks_of, new_parser
from gateway.aio.turn import SLICE, Turn
from gateway.errors import Refused, refuse
from gateway.http.headers import MAX_HEAD_BYTES
from gateway.listener.backlog import MAX_SKIPPED, Backlog
from gateway.listener.coding import Coding
from gateway.listener.parser_bypass import ParserBypass
from gateway.listener.parser_faults import ends_in_http_1_0, is_whole_head, parser_fault
from gateway.model.reasons import Reason

_LARGE: Final = 4096  # bytes of a head; few clients send so many
_END: Final = b"\r\n\r\n"
_PIECE: Final = 262_144  # bytes of a body that bypass the parser at once
_SMALL: Final = 65_536  # bytes of a body of known length that the parser gets at once

# A message of aiohttp's parser, or the fault found in its place.
Request = RawRequestMessage | Refused


class RequestReader:
    """Reads for one connection; reports the cost to its `turn`. The loop is only passed on to aiohttp."""

    __slots__ = (
        "_again",
        "_backlog",
        "_body_left",
        "_bypass",
        "_coding",
        "_empty_bytes",
        "_head",
        "_head_bytes",
        "_head_end",
        "_is_again",
        "_is_between",
        "_is_stalled",
        "_loop",
        "_parser",
        "_repeated",
        "_requests",
        "_turn",
        "body_wire",
        "has_begun",
        "is_coded",
        "was_large",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
        self._loop = loop
        self._turn = turn
        self._parser: HttpRequestParser | None = None  # made when there is something to parse
        self._backlog = Backlog()
        self._requests: deque[tuple[Request, StreamReader]] = deque()
        self._is_stalled = False  # whether the parser has reached its most requests and keeps the rest
        self._is_between = True
        self._head = b""
        self._head_bytes = 0
        self._head_end = b""  # its last three bytes: the mark of its end may be cut between two pieces
        self._empty_bytes = 0  # of the empty lines before the head
        self._again = b""
        self._repeated: RawRequestMessage | None = None
        self._is_again = False
        self._bypass = ParserBypass()
        self._coding = Coding()
        self._body_left = 0
        self.has_begun = False
        """Whether a part of the next head has arrived."""
        self.is_coded = False
        """Whether the body is in chunks."""
        self.was_large = False
        """Whether the last head was so large that nothing of it is kept while the connection is idle."""
        self.body_wire = 0
        """Bytes of the body that were read from the wire."""

    # Received bytes

    def add(self, data: bytes) -> None:
        """Takes received bytes."""
        self._again = b""
        self._backlog.add(data)

    def repeat(self, data: bytes) -> bool:
        """Takes bytes received while waiting for a request, if they repeat the previous request exactly."""
        self._is_again = data == self._again and not self.has_begun
        return self._is_again

    def clear(self) -> None:
        """Drops the received bytes: they will not be read."""
        self._backlog.clear()
        self._requests.clear()
        self._is_stalled = False
        self._parser = None

    @property
    def waiting(self) -> int:
        """How many received bytes are unread."""
        return len(self._backlog)

    @property
    def has_unread(self) -> bool:
        """Whether received bytes are unread; the parser may hold some of them."""
        return bool(self._backlog) or self._is_stalled

    @property
    def has_request(self) -> bool:
        """Whether the next request, or its fault, is ready."""
        return self._is_again or bool(self._requests)

    @property
    def has_more(self) -> bool:
        """Whether bytes or requests came after the request that was taken last."""
        return bool(self._requests) or self.has_unread

    # Heads

    def begin(self) -> None:
        """Ends the previous request, and begins to look for the next one."""
        if self._parser is not None:
            self._parser.message_consumed()  # only once it is complete: the parser has not counted it earlier
        self._is_between = not self.is_coded  # after a chunked body the parser may hold a part of the next head
        if self.was_large and self._is_between and not self._requests and not self._is_stalled:
            self._parser = None  # it holds the last head
        self.is_coded = self.has_begun = False

    def feed_head(self) -> None:
        """Looks for the next request in the received bytes; gives the parser no more than its head.

        A fault discards all that the parser was given in the same piece, and anything after a request with
        `Connection: close` is a fault. Besides, all bytes left over are then known to belong to the next request.

        Raises:
            Refused: headers_too_large.
        """
        # Two empty lines look like the end of a head: the parser would get each pair separately.
        is_first = self._is_between and not self._head and not self._is_stalled
        skipped = self._backlog.skip_empty_lines() if is_first else 0
        is_skipping = skipped == MAX_SKIPPED  # more may follow
        is_fed = self.has_unread and not is_skipping
        data = self._feed(min(SLICE, self._backlog.through(_END, self._head_end))) if is_fed else b""
        self._turn.spend(skipped + len(data), 1)  # a piece of a head costs the parser as much as a chunk
        self._empty_bytes += skipped
        self._head_bytes += len(data)
        self._head_end = (self._head_end + data)[1 - len(_END) :]
        if len(self._head) <= MAX_LINE:
            self._head += data
        if self._requests:
            return
        if self._empty_bytes + self._head_bytes > MAX_HEAD_BYTES:
            raise refuse(Reason.HEADERS_TOO_LARGE, "The request's head is too large.")
        self.has_begun |= bool(data or skipped)

    def take(self) -> tuple[Request, StreamReader]:
        """Takes the next request, which must be ready, and a small body that came with it."""
        self.has_begun = False
        if self._is_again and self._repeated is not None:
            self._is_again = False
            return self._repeated, EMPTY_PAYLOAD
        self._bypass.begin(self._head, self._head_bytes)
        self.was_large = self._head_bytes > _LARGE
        head, self._head, self._head_bytes, self._empty_bytes = self._head, b"", 0, 0
        self._head_end = b""
        request, body = self._requests.popleft()
        if isinstance(request, Refused):
            return request, body
        self._begin_body(request, body)
        if request.version == HttpVersion10 and not ends_in_http_1_0(head):
            return refuse(Reason.BAD_REQUEST, "The request line does not say HTTP/1.0 or HTTP/1.1."), body
        if body is EMPTY_PAYLOAD and not self.has_more and not self.was_large and is_whole_head(head, request):
            self._again, self._repeated = head, request
        return request, body

    # Bodies

    def _begin_body(self, request: RawRequestMessage, body: StreamReader) -> None:
        self.is_coded = request.chunked
        self.body_wire = 0
        self._coding = Coding()
        self._turn.spend(0, chunks_of(body))
        self._body_left = int(request.headers.get("Content-Length", 0))
        # The part of a small body that is here counts as read, so that its connection can go on.
        if not self.is_coded and not body.is_eof() and self.waiting <= _SMALL:
            self.feed_body(body)

    def expect_body(self, length: int | None) -> None:
        """Sets the body's size, if its head states one: then not all of it must be parsed."""
        self._bypass.expect(length)

    def read_body(self, body: StreamReader) -> bytes:
        """Returns what was read of a body; nothing when more of it must be fed, or it has ended.

        Raises:
            Refused: body_malformed.
        """
        try:
            data = body.read_nowait()
        except MalformedBody:
            raise _malformed() from None
        if not data and not body.is_eof() and self._requests and isinstance(self._requests[-1][0], Refused):
            raise _malformed()  # the parser gave up within the body and dropped it without notice to its reader
        return data

    def feed_body(self, body: StreamReader) -> None:
        """Feeds a body from the received bytes: by the bypass, or by one slice through the parser.

        Raises:
            Refused: body_malformed, for a coding out of all proportion.
        """
        self._bypass.open(body.total_bytes)
        if self._bypass.left:
            self._pass_parser_by(body)
            return
        size, chunks = body.total_bytes, chunks_of(body)
        data = self._feed(SLICE if self.is_coded else max(1, min(_SMALL, self._body_left)))
        self._body_left -= len(data)
        size, chunks = body.total_bytes - size, chunks_of(body) - chunks
        self._turn.spend(len(data), chunks)
        self.body_wire += len(data)
        if self.is_coded and self._coding.is_wasteful(len(data), size, chunks):
            raise refuse(Reason.BODY_MALFORMED, "The body's chunks are too small: send 64 bytes or more in each.")

    def _pass_parser_by(self, body: StreamReader) -> None:
        """Feeds the body. Later bytes need a new parser: the old one still waits for the body."""
        piece = self._bypass.take(self._backlog.take(min(_PIECE, self._bypass.left)))
        self._turn.spend(len(piece))
        self.body_wire += len(piece)
        body.feed_data(piece)
        if not self._bypass.left:
            self._parser = None
            body.feed_eof()

    # The parser

    def _feed(self, most: int) -> bytes:
        """Gives the parser the next bytes. It stops at 32 requests; the next call continues with those it holds.

        A request whose body has just ended counts among the 32.
        """
        data = b"" if self._is_stalled else self._backlog.take(most)
        self._bypass.give(len(data))
        if self._parser is None:
            self._parser = new_parser(self._loop)
        try:
            requests, is_upgraded, tail = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self._requests.append((parser_fault(error), EMPTY_PAYLOAD))
        else:
            self._requests.extend(requests)
            if is_upgraded:
                self._ignore_upgrade(tail)
        self._is_stalled = len(self._requests) >= MAX_REQUESTS - 1
        return data

    def _ignore_upgrade(self, tail: bytes) -> None:
        """The bytes after an Upgrade request are HTTP all the same; not so after CONNECT, whose connection closes."""
        if self._parser is not None:
            self._parser.set_upgraded(False)
        if tail and not (self._requests and is_connect(self._requests[-1][0])):
            self._backlog.put_back(tail)
            self._bypass.give(-len(tail))


def is_connect(request: Request) -> bool:
    """Whether the client takes the bytes after this request for another protocol."""
    return isinstance(request, RawRequestMessage) and request.method == hdrs.METH_CONNECT


def _malformed() -> Refused:
    return refuse(Reason.BODY_MALFORMED, "The request's body is malformed or ends too early.")
