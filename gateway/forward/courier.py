"""Carries one permitted request to its upstream and the answer back.

The Permit is the only key to this room. What happened is noted in the Delivery, so that it can be told even when the
way ended in an error.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from aiohttp.streams import StreamReader

from gateway.acquaintance import Passage
from gateway.errors import UpstreamBrokeOff, UpstreamTimeout
from gateway.forward.answer import AnswerHead
from gateway.forward.checkurl import rewrite_check_url
from gateway.forward.connection import UpstreamConnection
from gateway.forward.heads import Framing, client_head, upstream_head
from gateway.forward.pool import Pool, Upstreams
from gateway.forward.relay import Collected, Download, Inspection, Watch, send_body
from gateway.listener.connection import ClientConnection
from gateway.model import Delivery, Kind, Trace

_FIRST_NOT_GOOD: Final = 300
_OK: Final = 200
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Submit(Inspection, Protocol):
    """What is asked on the way of a submit: by its body, and by its answer."""

    @property
    def lines(self) -> tuple[bytes, ...]:
        """Header lines for the client."""

    @property
    def is_released(self) -> bool:
        """Whether the end of the body went upstream."""

    def refused(self) -> None:
        """Takes note of an answer that is no 2xx."""

    async def answered(self, content: bytes) -> None:
        """Takes a 2xx answer before the client sees it. Raises Refused and UpstreamFailed."""


class Order(NamedTuple):
    """One request to carry: who waits for it, what may be sent where, and the record of how it went.

    `submit` belongs to requests that start jobs.
    """

    client: ClientConnection
    body: StreamReader
    passage: Passage
    trace: Trace
    delivery: Delivery
    submit: Submit | None = None


class Watcher(Protocol):
    """Looks at what polls are answered, which may show that a job has ended."""

    def is_unfinished(self, content: bytes) -> bool:
        """Whether this very answer was looked at before, and said that the job still runs."""

    def watch(self, upstream: str, request_id: str) -> Watch | None:
        """What looks at one answer; None when there is nothing left to learn of the job."""


class Courier:
    """Forwards. `clock` is the loop's, in seconds; `date` gives the value of a Date header."""

    def __init__(
        self, upstreams: Upstreams, clock: Callable[[], float], date: Callable[[], bytes], watcher: Watcher
    ) -> None:
        self._watcher = watcher
        self._upstreams = upstreams
        self._clock = clock
        self._date = date

    async def forward(self, order: Order) -> None:
        """Sends the request, waits for the answer, passes it on.

        Raises:
            Refused: for what is found wrong with the body.
            ClientGone: the client left before its part was over.
            UpstreamFailed: with delivery.status at 0 when the client can still be told.
        """
        pool = self._upstreams.pool_of(order.passage.target)
        upstream = await self._ask_safely(order, pool)
        try:
            await self._pass_on(order, upstream)
        except BaseException:
            pool.discard(upstream)
            raise
        finally:
            order.delivery.ended = self._clock()
        if order.body.is_eof():
            pool.give_back(upstream, order.delivery.ended)
        else:
            pool.discard(upstream)

    async def _ask_safely(self, order: Order, pool: Pool) -> UpstreamConnection:
        """Sends the request; a safe one that a used connection lost on the way goes once more, on a new one."""
        delivery = order.delivery
        upstream = None if order.passage.fields.has_body else pool.take_idle(self._clock())
        if upstream is not None:
            delivery.connection = "reused"
            try:
                return await self._ask(order, pool, upstream)
            except UpstreamBrokeOff as failure:
                if failure.arrived or order.passage.method not in _SAFE:
                    raise
                delivery.retried = True
        upstream = await pool.connect()
        delivery.connection = "new"
        return await self._ask(order, pool, upstream)

    async def _ask(self, order: Order, pool: Pool, upstream: UpstreamConnection) -> UpstreamConnection:
        client, passage, delivery = order.client, order.passage, order.delivery
        try:
            upstream.begin(bodiless=passage.method == "HEAD")
            delivery.started = delivery.started or self._clock()
            upstream.send(upstream_head(passage.opening, order.trace))
            if passage.fields.has_body:
                await send_body(client, order.body, passage, upstream, delivery, order.submit)
            client.expect(passage.target.read_timeout, _silence)
            await upstream.answered
            if upstream.failure is not None:
                raise upstream.failure
        except BaseException:
            pool.discard(upstream)
            raise
        return upstream

    async def _pass_on(self, order: Order, upstream: UpstreamConnection) -> None:
        client, passage = order.client, order.passage
        answer = upstream.head
        if answer is None:  # pragma: no cover -- `answered` without a failure is set once the head is there
            raise UpstreamBrokeOff("The upstream gave no answer.", arrived=False)
        ends = client.live.is_draining or client.is_revoked
        closes = ends or not passage.fields.keep_alive or not order.body.is_eof()
        framing = _framing(passage, answer, closes)
        if order.submit is not None and answer.status >= _FIRST_NOT_GOOD:
            order.submit.refused()
        if passage.permit.route.kind is Kind.SUBMIT and answer.status < _FIRST_NOT_GOOD and passage.method != "HEAD":
            client.expect(passage.target.read_timeout, _silence)
            if order.submit is not None and not order.submit.is_released:
                raise UpstreamBrokeOff("The upstream accepted a job before it had the whole of it.", arrived=True)
            content = _rewritten(await Collected(upstream).run(), answer, order)
            if order.submit is not None:
                await order.submit.answered(content)
            self._send_whole(order, answer, Framing(len(content), chunked=False, closes=closes), content)
        elif upstream.body_ended and not framing.chunked:
            content = b"".join(upstream.held)
            if answer.length is not None and len(content) != answer.length:
                raise UpstreamBrokeOff("The upstream's answer is not as long as it says.", arrived=True)
            self._send_whole(order, answer, framing, content)
            if passage.permit.request_id is not None and not self._watcher.is_unfinished(content):
                watch = self._watch(passage, answer)
                if watch is not None:
                    watch.take(content)
                    watch.end()
        else:
            order.delivery.status = answer.status
            download = Download(
                client, upstream, order.delivery, passage.target.read_timeout, chunked=framing.chunked
            )
            download.watch = self._watch(passage, answer)
            await download.run(self._client_head(order, answer, framing))
        client.is_last = framing.closes

    def _watch(self, passage: Passage, answer: AnswerHead) -> Watch | None:
        permit = passage.permit
        if permit.request_id is None or answer.status != _OK:
            return None
        return self._watcher.watch(permit.route.upstream, permit.request_id)

    def _send_whole(self, order: Order, answer: AnswerHead, framing: Framing, content: bytes) -> None:
        if order.client.is_gone:
            return
        order.delivery.status = answer.status
        order.delivery.sent = len(content)
        order.client.send(self._client_head(order, answer, framing) + content)

    def _client_head(self, order: Order, answer: AnswerHead, framing: Framing) -> bytes:
        head = client_head(answer, framing, order.trace.request_id, order.passage.permit.route.kind, self._date)
        if order.submit is None or not order.submit.lines:
            return head
        return b"\r\n".join((head[:-4], *order.submit.lines)) + b"\r\n\r\n"


def _framing(passage: Passage, answer: AnswerHead, closes: bool) -> Framing:
    if passage.method == "HEAD" or answer.length is not None:
        return Framing(answer.stated, False, closes)
    chunked = passage.fields.http_1_1
    return Framing(None, chunked, closes or not chunked)


def _rewritten(content: bytes, answer: AnswerHead, order: Order) -> bytes:
    if any(name == b"content-encoding" for name, _ in answer.headers):
        raise UpstreamBrokeOff("The upstream's answer to a submit came in a coding nobody asked for.", arrived=True)
    return rewrite_check_url(content, order.passage.origin, order.passage.permit.path)


def _silence() -> UpstreamTimeout:
    return UpstreamTimeout("The upstream did not answer in time (upstream.read_timeout).")
