"""One connection of the admin listener: aiohttp's, with deadlines and its own error reporting.

aiohttp sets no limit on how long a client may take to read an answer. For input that is not HTTP it prints a
traceback to stderr, with the client's bytes in it. Only public names are overridden here. Input is parsed in slices,
until the turn is over (turn.py).

Keep-alive: a connection serves another request only when this one was authorized and can't affect the next: see
KEEPS. Until one of its requests was authorized it may be closed to make room for another connection, except while a
complete request is being answered.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from gateway.admin.problem import written_problem
from gateway.aio.aiohttp_internals import MAX_HEADERS, MAX_LINE, drop_requests
from gateway.aio.held_transport import HeldTransport
from gateway.aio.iteration import Iteration
from gateway.aio.turn import SLICE, Turn
from gateway.aio.unwanted import Unwanted
from gateway.errors import refuse, whereabouts, without_calls
from gateway.http.headers import MAX_HEAD_BYTES
from gateway.listener.backlog import Backlog
from gateway.listener.draining import DRAIN_SECONDS, is_too_long_to_drain
from gateway.listener.parser_faults import parser_fault
from gateway.model.identity import Peer
from gateway.model.networks import client_prefix
from gateway.model.reasons import Reason

# Set on an authorized request whose head allows keep-alive. Without it the answer says Connection: close. So callers
# that have not authenticated, and probes, hold no connection, and the rest of a chunked body can't reach a next
# request (aiohttp hands its last trailer to the next request as a header).
KEEPS: Final = web.RequestKey("keeps", bool)
IDLE: Final = 75.0
HEAD: Final = 10.0
EXCHANGE: Final = 60.0
_MOST_AHEAD: Final = MAX_HEAD_BYTES + 4 * SLICE
"""Bytes that may come before a request is looked at: its head, and what aiohttp takes of a body that nobody reads."""

log = structlog.get_logger()


class AdminConnection(RequestHandler):
    """A connection with one deadline: for a head to be whole, then for its answer to be taken, then for its end."""

    __slots__ = (
        "_ahead",
        "_answered",
        "_backlog",
        "_body",
        "_deadline",
        "_is_answering",
        "_is_known",
        "_is_refused",
        "_iteration",
        "_on_end",
        "_own_loop",
        "_raw",
        "_reading",
        "_turn",
        "_turn_is_over",
        "_unwanted",
        "has_ended",
        "peer",
    )

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        peer: Peer,
        on_end: Callable[["AdminConnection"], None],
        iteration: Iteration,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE,
            access_log=None,  # type: ignore[arg-type] # aiohttp takes None for "no access log"
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            read_bufsize=SLICE,  # reading a body takes all buffered bytes outside our turns: 2,048 chunks at the most
            lingering_time=DRAIN_SECONDS,
            auto_decompress=False,
        )
        self.peer = peer
        self.has_ended = False
        self._on_end = on_end
        self._own_loop = loop
        self._raw: asyncio.Transport | None = None  # also of one that was closed, until it is lost
        self._backlog = Backlog()
        self._iteration = iteration
        self._turn = Turn(iteration)
        self._turn_is_over = False
        self._ahead = 0  # bytes that came since the last request was begun
        self._body: StreamReader | None = None  # of the last request, while some of it is still to come
        self._is_answering = False
        self._unwanted: Unwanted | None = None  # what comes after an answer, of a body that is not read
        self._is_known = False  # one of its requests was authorized
        self._is_refused = False  # whatever is left of it is not carried out
        self._answered: _AnsweredError | None = None  # what ended its last request
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._raw = cast("asyncio.Transport", transport)
        self._reading = HeldTransport(self._raw, self._read_on, EXCHANGE)
        super().connection_made(cast("asyncio.Transport", self._reading))  # a transport by what it has
        self._expect(HEAD)

    async def start(self) -> None:
        """Called by aiohttp, in a task: serves the requests of this connection.

        Nothing is left when it ends but what counting references frees: else strangers could fill the memory, and
        collecting it would hold everyone. An error has the calls that it came through, and these the task that has
        the error.
        """
        try:
            await super().start()
        except TypeError:
            if self._raw is not None:
                raise
            # It was lost with a request that was not begun yet: aiohttp takes away what makes requests.
        finally:
            self.close()  # what waits for its turn is not parsed any more: nobody would begin it
            drop_requests(self)
            if self._answered is not None:
                without_calls(self._answered)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with received bytes; called by a body with none, so that the parser goes on."""
        if not data:
            super().data_received(data)
            return
        if self._unwanted is not None:
            self._unwanted.drop(len(data))
            self._read_or_wait()
            return
        if self._deadline is None:
            self._expect(HEAD)
        self._backlog.add(data)
        if self._iteration.is_full:
            self._end_turn()
        elif not self._turn_is_over:
            self._parse()

    def connection_lost(self, error: BaseException | None) -> None:
        """Called by the event loop."""
        self._expect(None)
        self._backlog.clear()
        super().connection_lost(error)
        if self._body is not None and not self._is_answering:
            self._body.feed_eof()  # aiohttp waits for the rest of it, which nobody reads
        self._body = self._unwanted = self._raw = None
        self._reading.forget()
        self._on_end(self)

    def begin_exchange(self, body: StreamReader) -> None:
        """Called when a head is complete: from now on the deadline is that of the exchange.

        Raises:
            ConnectionError: the answer to what came behind is written already, in the place of this one's.
        """
        if self._is_refused:
            raise self._note_answered()
        self._is_answering = True
        self._body = body
        self._ahead = 0
        self._expect(EXCHANGE)

    @property
    def gives_way(self) -> bool:
        """Whether it may be closed to make room for another: never authorized, and answering nothing now."""
        return self._raw is not None and not (self._is_known or self._is_answering)

    def give_way(self) -> None:
        """Closes it to make room for another."""
        if self._raw is not None:
            self._raw.abort()
        self._on_end(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Called by aiohttp with every answer, also with those that aiohttp made itself."""
        self._is_known |= request.get(KEEPS, False)
        if not request.get(KEEPS) or _has_much_left(request):
            resp.force_close()
            self._stop_listening(request)
        finished = await super().finish_response(request, resp, start_time)
        self._is_answering = False
        self._body = request.content
        if self._raw is None:
            self._body = self._unwanted = None
        if self._ahead > _MOST_AHEAD:
            self._ahead = 0
            self._read_on()
            self._read_or_wait()
        return finished

    def log_access(self, *_: Any) -> None:
        """Called by aiohttp when an answer was sent."""
        self._expect(None)

    def log_exception(self, *_: Any, exc_info: BaseException | None = None, **__: Any) -> None:
        """Called by aiohttp instead of raising; whatever a client's leaving has broken is no fault."""
        if self._raw is not None:
            log.warning("admin connection failed", error=whereabouts(exc_info) if exc_info else None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers input that is not HTTP, without repeating it in answer or log, and closes.

        Raises:
            ConnectionError: always: the answer is written, and aiohttp leaves the connection alone.
        """
        del status, message
        if isinstance(exc, _AnsweredError):
            raise exc
        if exc is not None:
            without_calls(exc)
        is_fault = isinstance(exc, HttpProcessingError)
        refused = parser_fault(exc) if exc and is_fault else refuse(Reason.INTERNAL, "Something went wrong here.")
        log.warning("admin request refused", reason=refused.denial.reason, client_ip=request.remote)
        if self.transport is not None and not request.writer.output_size:
            self.transport.write(written_problem(refused))
        self.force_close()
        raise self._note_answered()

    def _note_answered(self) -> "_AnsweredError":
        self._answered = _AnsweredError()
        return self._answered

    def _stop_listening(self, request: web.BaseRequest) -> None:
        """Stops reading a long body once its answer is sent, and any chunked one, whose bytes may be dear."""
        if _has_much_left(request):
            self._unwanted = Unwanted(self._iteration, client_prefix(self.peer.ip), self._read_or_wait)
            self._backlog.clear()

    def _read_on(self) -> None:
        """Called when aiohttp wants more again, as a body was read: what came before that waits for its turn."""
        if self._backlog:
            self._end_turn()

    def _parse(self) -> None:
        """Parses received bytes in slices until the turn is over or aiohttp wants no more for now (back pressure)."""
        self._turn.work()
        while self._backlog and not (self._turn_is_over or self._turn.is_over or self._has_enough):
            data = self._backlog.take(SLICE)
            self._count_ahead(len(data))
            if self._ahead > _MOST_AHEAD and not self._is_answering:
                self._refuse_head()
                break
            super().data_received(data)
            self._turn.spend(len(data), data.count(b"\n") // 2)  # a chunk has two line ends
        self._turn.rest()
        if self._backlog and not self._has_enough:
            self._end_turn()
        elif self._is_far_ahead:
            self._read_or_wait()

    @property
    def _has_enough(self) -> bool:
        """Whether nothing more is parsed for now: aiohttp wants no more, or an answer has to go out first."""
        return self._reading.is_paused or self._is_far_ahead

    @property
    def _is_far_ahead(self) -> bool:
        """Whether so much came behind a request that is being answered that the rest waits in the kernel."""
        return self._is_answering and self._ahead > _MOST_AHEAD

    def _count_ahead(self, size: int) -> None:
        """Counts what is no body: aiohttp bounds a head's lines and their number, which together are 800 KB."""
        if self._body is not None and self._body.is_eof():
            self._body = None
        if self._body is None:
            self._ahead += size

    def _refuse_head(self) -> None:
        self._is_refused = True
        refused = refuse(Reason.HEADERS_TOO_LARGE, "The request's head is too large.")
        log.warning("admin request refused", reason=refused.denial.reason, client_ip=str(self.peer.ip))
        self._backlog.clear()
        if self.transport is not None:
            self.transport.write(written_problem(refused))
        self.force_close()

    def _end_turn(self) -> None:
        """Yields to other connections: the rest stays in the backlog, and reading from the socket pauses."""
        if not self._turn_is_over:
            self._turn_is_over = True
            self._read_or_wait()
            is_small = self._turn.needs_little(len(self._backlog))
            self._iteration.call_in_turn(self._begin_turn, client_prefix(self.peer.ip), is_small=is_small)

    def _begin_turn(self) -> None:
        self._turn_is_over = False
        self._parse()
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        if self.transport is None:
            return
        waits = self._turn_is_over or self._is_far_ahead if self._unwanted is None else not self._unwanted.may_read
        if waits:
            self._reading.hold()
        elif not self.transport.is_closing():
            self._reading.let_go()

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if seconds is not None and self._raw is not None:  # nothing is expected of one that was lost: it would stay
            self._deadline = self._own_loop.call_later(seconds, self._cut_off)

    def _cut_off(self) -> None:
        self._deadline = None
        if self.transport is not None:
            self.transport.abort()


def _has_much_left(request: web.BaseRequest) -> bool:
    body = request.content
    return not body.is_eof() and is_too_long_to_drain(request.content_length, body.total_bytes)


class _AnsweredError(ConnectionError):
    """Tells aiohttp that a connection is done with."""


def prefix_of(request: web.BaseRequest) -> bytes | None:
    """The client's prefix, in whose turns a request is read and answered; None: not one of our connections."""
    connection = request.protocol
    return client_prefix(connection.peer.ip) if isinstance(connection, AdminConnection) else None
