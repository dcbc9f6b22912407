"""Carries one permitted request to its upstream, and the answer back.

Nothing is forwarded without a Permit. The Delivery records what happened, so that it can be reported even if the
request ended in an error.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from gateway.authorize.prepared_request import PreparedRequest
from gateway.errors import Refused, UpstreamBrokeOff, UpstreamTimeout
from gateway.jobs.job import Job
from gateway.jobs.status_answer import MAX_CONTENT, StatusAnswer
from gateway.limits.concurrency import downloads
from gateway.model.identity import Profile
from gateway.model.reasons import Denial
from gateway.model.statuses import SUCCESS
from gateway.proxy.collected import Collected
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.poll_examination import PollExaminer, note_shared
from gateway.proxy.still_permitted import StillPermitted
from gateway.proxy.streaming import Download
from gateway.proxy.submission import Submission
from gateway.proxy.upload import Upload
from gateway.upstream.answer_turns import READ
from gateway.upstream.client_head import BodyFraming, client_head, with_public_location
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool, Upstreams
from gateway.upstream.repetition import may_go_again, may_go_on_used
from gateway.upstream.request_head import upstream_head
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.submit_answer import read_submit_answer
from gateway.upstream.url_rewriter import UrlRewriter


class BegunAnswer(NamedTuple):
    """What has come of an answer: its head. A part of the request's body may still be unsent."""

    upstream: UpstreamConnection
    upload: Upload
    head: ResponseHead


class Forwarder:
    """Forwards requests. `clock` is the loop's, in seconds; `date` returns the value of a Date header.

    `confirm` checks that the job of a request that has waited was not deleted meanwhile.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        clock: Callable[[], float],
        date: Callable[[], bytes],
        examiner: PollExaminer,
        still_permitted: StillPermitted,
        confirm: Callable[[Job], Awaitable[None]],
    ) -> None:
        self._examiner = examiner
        self._still_permitted = still_permitted
        self._confirm = confirm
        self._upstreams = upstreams
        self._clock = clock
        self._date = date
        self._downloads = downloads()

    async def forward(self, order: ForwardOrder) -> None:
        """Sends the request, waits for the answer, passes it on.

        Raises:
            Refused: the body is invalid; the account reads as many results as it may.
            ClientGone: the client left while the exchange still needed it.
            UpstreamFailed: delivery.status is 0 if the client can still get an error answer.
        """
        if order.job is not None and not order.job.is_running and order.prepared.gives_content:
            self._allow(self._downloads.check, order)
        pool = self._upstreams.pool_of(order.prepared.upstream)
        begun = await self._ask_or_repeat(order, pool)
        try:
            if order.job is not None and order.delete_before is None:
                await self._confirm(order.job)
            if order.submit is None:  # an accepted job is always reported, whatever became of its sender's permit
                self._still_permitted.check_both(order)
            await self._pass_on(order, begun)
        except BaseException:
            pool.discard(begun.upstream)
            raise
        finally:
            order.delivery.ended = self._clock()
        pool.give_back(begun.upstream, order.delivery.ended)

    def share(self, order: ForwardOrder, answer: StatusAnswer) -> None:
        """Sends the client the whole answer to one upstream request that serves several clients."""
        order.delivery.connection = "shared"
        closes = order.client.closes_after_forwarded(order.prepared.headers, order.body)
        self._send_whole(order, answer.head, BodyFraming(len(answer.content), False, closes), answer.content)
        note_shared(order.delivery, answer)
        if closes:
            order.client.end_after_this()

    async def _ask_or_repeat(self, order: ForwardOrder, pool: Pool) -> BegunAnswer:
        """Sends the request, and once more on a new connection if a used one lost it (upstream/repetition.py)."""
        delivery, method, kind = order.delivery, order.prepared.method, order.prepared.permit.route.kind
        may_reuse = may_go_on_used(method, is_streamed=order.is_streamed, changes_job=kind.changes_job)
        upstream = pool.take_idle(self._clock()) if may_reuse else None
        if upstream is not None:
            delivery.connection = "reused"
            try:
                return await self._ask(order, pool, upstream)
            except UpstreamBrokeOff as failure:
                if not may_go_again(may_reuse=may_reuse, was_used=True, has_arrived=failure.arrived):
                    raise
                delivery.retried = True
        upstream = await pool.connect(order.client.prefix)
        delivery.connection = "new"
        return await self._ask(order, pool, upstream)

    async def _ask(self, order: ForwardOrder, pool: Pool, upstream: UpstreamConnection) -> BegunAnswer:
        """Sends the request and waits for the answer's head."""
        client, prepared, delivery = order.client, order.prepared, order.delivery
        upload = Upload(order, upstream, partial(self._still_permitted.check_both, order))
        try:
            delivery.started = delivery.started or self._clock()
            self._begin_request(order, upstream)
            if order.is_streamed:
                await upload.run()
            if order.delete_before is not None:
                client.finish_alone()
            client.expect(prepared.upstream.read_timeout, _silence)
            await upstream.answered
            delivery.answered = self._clock()
            return BegunAnswer(upstream, upload, upstream.head_or_failure())
        except BaseException:
            pool.discard(upstream)
            raise

    def _begin_request(self, order: ForwardOrder, upstream: UpstreamConnection) -> None:
        """Sends the head, and a body that was read before; nothing where it may not go any more."""
        prepared = order.prepared
        self._still_permitted.check_both(order)  # opening the connection may have taken seconds
        if order.delete_before is not None and self._clock() >= order.delete_before:
            raise UpstreamTimeout("The upstream could not be asked in time to delete the job.")
        upstream.ask(
            upstream_head(prepared.opening, order.trace),
            prepared.body_length,
            bodiless=prepared.method == "HEAD",
            peer=order.client.prefix,
        )
        if order.content is not None:
            upstream.send(order.content)
            upstream.send_end()

    async def _pass_on(self, order: ForwardOrder, begun: BegunAnswer) -> None:
        """Passes an answer on: that of an accepted job, or one that came at once, whole; all else as it comes."""
        client, prepared = order.client, order.prepared
        upstream, _, answer = begun
        closes = client.closes_after_forwarded(prepared.headers, order.body)
        framing = _framing(prepared, answer, closes)
        if order.submit is not None and answer.status not in SUCCESS:
            await _note_refused(order, order.submit)
        if order.submit is not None and answer.status in SUCCESS:
            content = await _accept_job(order, order.submit, upstream, answer)
            self._send_whole(order, answer, BodyFraming(len(content), chunked=False, closes=closes), content)
        elif upstream.is_held_whole and not framing.chunked and not _is_rewritten(prepared, answer):
            content = _held_whole(upstream, answer)
            self._send_whole(order, answer, framing, content)
            await self._examiner.examine(order, answer, content)
        else:
            client.finish_together()  # the head said all that is recorded: a container may drip the rest for ever
            is_held = upstream.is_held_whole or _is_small(answer)
            pass_on = self._download if prepared.gives_content and not is_held else self._stream
            await pass_on(order, begun, framing)
        if framing.closes:
            client.end_after_this()

    def _allow(self, take: Callable[[str, Profile], Denial | None], order: ForwardOrder) -> None:
        denial = take(order.prepared.subject, order.prepared.permit.profile)
        if denial is not None:
            raise Refused(denial)

    async def _download(self, order: ForwardOrder, begun: BegunAnswer, framing: BodyFraming) -> None:
        """Streams an answer about a job, which the upstream holds in its memory until the client took it."""
        self._allow(self._downloads.take, order)
        try:
            await self._stream(order, begun, framing)
        finally:
            self._downloads.give_back(order.prepared.subject)

    async def _stream(self, order: ForwardOrder, begun: BegunAnswer, framing: BodyFraming) -> None:
        """Streams the answer to the client, while the rest of the request's body may still go upstream."""
        upstream, upload, answer = begun
        order.delivery.status = answer.status
        examination = self._examiner.begin(order, answer)
        rewriter = _rewriter(order) if _is_rewritten(order.prepared, answer) else None
        download = Download(order, upstream, examination, rewriter, chunked=framing.chunked)
        if order.asking_poll is not None and (answer.length is None or answer.length > MAX_CONTENT):
            order.asking_poll.close()  # nobody else waits for what a slow client reads
        if upstream.wants_body:
            upload.go_on(download.set_clocks, order.client.interrupt)
        try:
            await download.run(self._client_head(order, answer, framing))
        finally:
            upload.stop()
            if examination is not None:
                examination.close()

    def _send_whole(self, order: ForwardOrder, answer: ResponseHead, framing: BodyFraming, content: bytes) -> None:
        if order.client.is_gone:
            return
        order.delivery.status = answer.status
        order.delivery.sent = len(content)
        order.client.out.send(self._client_head(order, answer, framing) + content)

    def _client_head(self, order: ForwardOrder, answer: ResponseHead, framing: BodyFraming) -> bytes:
        if answer.has_location:
            answer = with_public_location(answer, order.prepared.upstream, order.prepared.origin)
        head = client_head(answer, framing, order.trace.request_id, order.prepared.permit.route.kind, self._date)
        lines = order.submit.lines if order.submit is not None else ()
        return b"\r\n".join((head[:-4], *lines)) + b"\r\n\r\n" if lines else head


def _is_small(answer: ResponseHead) -> bool:
    """Whether it holds too little of the container's memory to count, though it may come in pieces."""
    return answer.length is not None and answer.length <= READ


def _framing(prepared: PreparedRequest, answer: ResponseHead, closes: bool) -> BodyFraming:
    is_rewritten = _is_rewritten(prepared, answer)  # then the length is only known at the end
    if not is_rewritten and (prepared.method == "HEAD" or answer.length is not None):
        return BodyFraming(answer.stated, False, closes)
    chunked = prepared.headers.http_1_1
    return BodyFraming(None, chunked, closes or not chunked)


def _is_rewritten(prepared: PreparedRequest, answer: ResponseHead) -> bool:
    return prepared.permit.route.rewrites and prepared.method != "HEAD" and answer.length != 0


def _held_whole(upstream: UpstreamConnection, answer: ResponseHead) -> bytes:
    """The whole body of an answer that came at once."""
    content = bytes(upstream.held)
    if answer.length is not None and len(content) != answer.length:
        raise UpstreamBrokeOff("The upstream's answer is not as long as it says.", arrived=True)
    return content


async def _note_refused(order: ForwardOrder, submit: Submission) -> None:
    """Before the answer that refuses a job is passed on: what the account's own limits say comes first."""
    submit.mark_refused()
    order.client.expect_nothing()  # the ledger's answer has a deadline of its own
    await submit.until_known()
    order.client.expect(order.prepared.upstream.read_timeout, _silence)


async def _accept_job(
    order: ForwardOrder, submit: Submission, upstream: UpstreamConnection, answer: ResponseHead
) -> bytes:
    """The client's version of the answer that starts a job, once the ledger holds the job's owner."""
    prepared = order.prepared
    order.client.expect(prepared.upstream.read_timeout, _silence)  # for all of it: no byte begins it anew
    if not submit.is_released:
        raise UpstreamBrokeOff("The upstream accepted a job before it had the whole of it.", arrived=True)
    content = await Collected(upstream).run()
    await order.client.time_for(len(content))
    accepted = read_submit_answer(answer, content, prepared.origin, prepared.permit.path, prepared.job_shape)
    await submit.take_answer(accepted)
    return accepted.content


def _rewriter(order: ForwardOrder) -> UrlRewriter:
    upstream = order.prepared.upstream
    old = f"{upstream.scheme}://{upstream.authority}/"
    return UrlRewriter(old.encode("ascii"), order.prepared.origin.encode("ascii") + b"/")


def _silence() -> UpstreamTimeout:
    return UpstreamTimeout("The upstream did not answer in time (upstream.read_timeout).")
