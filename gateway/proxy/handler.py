"""The way of a request, top to bottom.

 1 state      one compiled configuration, to the end            7 admit      rate and concurrency, before the body
 2 head       what the parser lets through and we do not        8 body       invited only now; capped, inspected, its
 3 address    whom do we believe                                             pages reserved before its end is released
 4 route      default-deny, then the address rules              9 forward    strip, add, stream both ways
 5 identity   one credential, or none where none is asked      10 settle     what is held is given back or charged
 6 decide     may this caller do this, this large              11 observe    once, whatever became of it

Up to 6 the head alone decides: not one byte of a body has been asked for. `__call__` is the one boundary: whatever
is raised below becomes an answer (or a cut connection, once an answer has begun), a log event and a count there.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import orjson
import structlog
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.admission.admission import Admission
from gateway.admission.unverified_bodies import UnverifiedBodies
from gateway.audit.trail import AuditTrail
from gateway.auth.validity import check_required_certificate
from gateway.authorize.cached_headers import CachedHeaders, cache_headers
from gateway.authorize.login import Evidence, Login
from gateway.authorize.permit import make_permit
from gateway.authorize.preparation import prepare_request
from gateway.authorize.prepared_request import PreparedRequest, RequestLine
from gateway.config.state import ALIVE, Live, State
from gateway.errors import ClientGone, Refused, UpstreamFailed, refuse, whereabouts
from gateway.http.headers import origin_form, read_target
from gateway.http.media_type import BodyFormat, body_format
from gateway.http.problem import own_answer, problem
from gateway.http.trace import trace_of
from gateway.jobs.job import Job, StatusAnswer
from gateway.jobs.shared_polls import Poll
from gateway.limits.concurrency import Concurrency
from gateway.limits.polls import Polls
from gateway.limits.report import account_report
from gateway.listener.connection import ClientConnection
from gateway.listener.request_reader import Request
from gateway.model.identity import ClientCertificate, Identity
from gateway.model.reasons import VERDICTS, Denial, Reason, Source
from gateway.model.request import Delivery, Exchange
from gateway.model.routes import Access, Kind
from gateway.observe.observer import Observer
from gateway.policy.routes import check_access, check_address, check_length, check_takes_body
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.forwarder import Forwarder, Recheck
from gateway.proxy.job_access import JobAccess, has_taken_result, is_read, is_told, may_share_ours, poll_of, shape_of
from gateway.proxy.job_in_body import MAX_BYTES, check_names_none
from gateway.proxy.request_body import read_whole
from gateway.proxy.streaming import drain
from gateway.proxy.submission import Intake, Submission
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.spool import Spool
from gateway.uploads.submit_body import SubmitBody
from gateway.webhooks.inbound.inbound_receiver import Receiver
from gateway.webhooks.outbound.planning import Planning

_INTERNAL: Final = "The gateway failed; its log says where."
RECHECK_AFTER: Final = 1.0  # seconds
_DELETE_WITHIN: Final = 2.0  # seconds; the ledger gives the id to another job after five at the earliest
_HELD_WITH: Final = 4096  # bytes of a body, which is kept while its client waits
_ALIVE: Final = b'{"status":"ok"}'
log = structlog.get_logger()


class HandlerParts(NamedTuple):
    """What the handler works with. `date` gives the value of a Date header; `uses` takes when a secret was used.

    `wall` is in seconds since the epoch.
    `recheck` checks the permit of a request that has waited.
    """

    live: Live
    login: Login
    admission: Admission
    spool: Spool
    counter: PageCounter
    forwarder: Forwarder
    recheck: Recheck
    observer: Observer
    date: Callable[[], bytes]
    wall: Callable[[], float]
    uses: dict[tuple[str, int], float]
    jobs: JobAccess
    webhooks: Planning
    receiver: Receiver
    unverified: UnverifiedBodies
    trail: AuditTrail


class Handler:
    """Serves the requests of the public listener.

    `clock` is the loop's, in seconds; `new_id` gives 32 hexadecimal digits.
    """

    def __init__(self, parts: HandlerParts, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._parts = parts
        self._live = parts.live
        self._forwarder = parts.forwarder
        self._observer = parts.observer
        self._clock = clock
        self._new_id = new_id
        self._date = parts.date
        self._wall = parts.wall
        self._uses = parts.uses
        self._polls = Polls()
        self._places = Concurrency()

    async def __call__(self, client: ClientConnection, request: Request, body: StreamReader) -> None:
        """Serves one request; raises nothing."""
        exchange = Exchange(self._new_id(), self._clock(), client.peer_ip, client.peer_ip)
        self._observer.began()
        try:
            await self._serve(client, request, body, exchange)
        except Refused as refused:
            await self._refuse(client, body, exchange, refused.denial)
        except UpstreamFailed as failure:
            await self._refuse(client, body, exchange, Denial(failure.reason, str(failure), failure.retry_after))
        except ClientGone as gone:
            self._note(exchange, gone.reason, str(gone))
            client.abort()
        except Exception as error:  # noqa: BLE001 -- the boundary: a fault of ours is a 500 and an event
            log.error("internal error", request_id=exchange.request_id, error=whereabouts(error))
            await self._refuse(client, body, exchange, Denial(Reason.INTERNAL, _INTERNAL))
        finally:
            client.finishes_alone = False
            exchange.ended = exchange.ended or self._clock()
            self._observer.ended(exchange)

    async def _serve(
        self, client: ClientConnection, request: Request, body: StreamReader, exchange: Exchange
    ) -> None:
        state = self._live.state
        if isinstance(request, Refused):
            raise request
        exchange.method = request.method
        cached = _recognize(client, state, request)
        exchange.client_ip = cached.client_ip
        exchange.trace = trace_of(exchange.request_id, cached.request_id, cached.passed_on, self._new_id)
        exchange.request_id = cached.request_id or exchange.request_id

        prepared = cached.prepared
        if prepared is None or not prepared.is_for(request.method, request.path, exchange.started):
            prepared = cached.prepared = await self._permit(state, cached, client, request, exchange)
        permit = prepared.permit
        exchange.keep_alive = cached.headers.keep_alive
        exchange.route = permit.route.label
        identity = permit.identity
        if identity is not None:
            exchange.key_id, exchange.profile = identity.key_id, identity.profile.name
            exchange.authentication = identity.label
            if prepared.use is not None:
                self._uses[prepared.use] = exchange.started

        delivery = exchange.delivery = Delivery()
        job = cached.job_for(prepared)
        order = ForwardOrder(client, body, prepared, exchange.trace, delivery, None, job)
        kind = permit.route.kind
        if kind is Kind.SUBMIT:
            await self._submit(state, order)
        elif permit.job_id is not None:
            await self._serve_job(state, cached, order, exchange.started)
        else:
            await self._serve_other(order, exchange.started)

        exchange.status = delivery.status
        exchange.ended = self._clock()
        if permit.route.is_ours:
            exchange.reason, exchange.source = Reason.ANSWERED, Source.GATEWAY
        if client.is_gone:
            self._note(exchange, Reason.CLIENT_GONE, "The client left after its request was released upstream.")
        elif not body.is_eof():
            await drain(client, body)

    async def _permit(
        self,
        state: State,
        cached: CachedHeaders,
        client: ClientConnection,
        request: RawRequestMessage,
        exchange: Exchange,
    ) -> PreparedRequest:
        """Steps 2 to 6 of the way: what is left to ask once the headers are known. Raises Refused."""
        host, target = origin_form(request.path)
        cached = cached.addressed_to(host)
        headers = cached.headers
        path, query = read_target(request.method, target)
        exchange.keep_alive = headers.keep_alive
        path = state.routes.unaliased(path)
        rule = state.routes.match(request.method, path, headers.host, asked=target)
        exchange.route = rule.route.label
        check_address(cached.address, cached.is_allowed, rule)
        if state.needs_certificate:
            check_required_certificate(client.peer.certificate, self._wall())

        identity = None
        if rule.route.access is not Access.ANYONE:
            evidence = Evidence(cached.address.ip, client.peer.certificate)
            attempt = await self._parts.login.attempt(state, headers.known, evidence, exchange.started)
            exchange.authentication = attempt.label
            exchange.key_id = attempt.key_id
            identity = attempt.identity_or_refuse()
            check_access(rule.route, identity, cached.address.ip)
        elif headers.has_body:
            check_takes_body(rule.route, request.method)

        permit = make_permit(state, rule, path, query, cached.address, identity)
        check_length(headers.content_length, permit.body_limit)
        line = RequestLine(request.method, request.path)
        return prepare_request(
            state,
            cached,
            line,
            query,
            permit,
            exchange.started + self._trusted_for(identity, client.peer.certificate),
        )

    def _trusted_for(self, identity: Identity | None, certificate: ClientCertificate | None) -> float:
        """Seconds until a caller has to be checked again: a second, or less when what it came with ends before."""
        ends = (identity.expires_at if identity else None, certificate.not_after if certificate else None)
        soonest = min((end for end in ends if end is not None), default=None)
        return RECHECK_AFTER if soonest is None else min(RECHECK_AFTER, soonest - self._wall())

    async def _submit(self, state: State, order: ForwardOrder) -> None:
        """Steps 7 to 10 of a submit: a slot, the body, the pages before its end; given back on every path.

        Forwarder.forward -> Upload.run -> Submission.take for each piece, then .reserve_pages, which returns the
        body's end, and .mark_released; once the upstream has taken the job, Submission.take_answer.
        """
        permit = order.prepared.permit
        parts = self._parts
        lease = await parts.admission.admit(permit, permit.profile, state.reservation_ttl)
        boundary = order.prepared.boundary or b""
        shape = shape_of(order.prepared)
        rules = replace(
            state.form_rules,
            checkpoint=shape.checkpoint_field,
            options=shape.options_field,
            members=shape.options_members,
            most_pages=permit.profile.pages_per_request,
        )
        body = SubmitBody(boundary, rules, parts.spool, parts.counter, permit.account)
        prepared = order.prepared
        begin_job = partial(parts.jobs.begin_job, prepared)
        intake = Intake(shape, permit.path, begin_job, parts.webhooks, parts.jobs.completion.checkpoints)
        recheck = partial(parts.recheck, prepared, order.client)
        submission = Submission(lease, body, recheck, state.pricing, intake)
        try:
            await self._forwarder.forward(order._replace(submit=submission))
        except Refused as refused:
            raise Refused(replace(refused.denial, lines=lease.lines)) from None
        finally:
            submission.close()

    async def _serve_job(self, state: State, cached: CachedHeaders, order: ForwardOrder, now: float) -> None:
        """Steps 7 to 9 of a request about a job: only its owner may, and may wait here for its end."""
        prepared, jobs, job = order.prepared, self._parts.jobs, order.job
        self._take_poll(prepared, now)
        if job is None or not jobs.is_sure(job):
            job = await jobs.own(cached, prepared)
            order = order._replace(job=job)
        if prepared.headers.has_body:
            written_in = body_format(prepared.headers.known, BodyFormat.JSON, BodyFormat.FORM)
            content = await read_whole(order, MAX_BYTES, self._parts.unverified)
            check_names_none(content, prepared.permit.route.id_name, written_in)
            order = order._replace(content=content)
        if prepared.hold and job.is_running and len(order.content or b"") <= _HELD_WITH:
            await self._hold(order, job, prepared.hold)
            self._parts.recheck(prepared, order.client)
        if prepared.permit.route.kind is Kind.DELETE:
            order = await self._delete(order, job)
        was_told = is_told(job)
        try:
            if prepared.hold and (answer := job.answer) is not None and may_share_ours(order, answer):
                await self._share(order, job, answer)
            elif (poll := poll_of(order)) is not None and job.is_running:
                await self._answer_poll(order, job, poll, state.settings.jobs.status_age)
            else:
                await self._forwarder.forward(order)
        finally:
            self._note_taken(order, job)
        if state.settings.jobs.delete_after_read and is_read(order, job, was_told=was_told):
            await order.client.until_all_taken()
            if is_read(order, job, was_told=was_told):  # its client may be gone by now
                jobs.completion.forget(job)

    async def _answer_poll(self, order: ForwardOrder, job: Job, poll: Poll, age: float) -> None:
        """Answers a poll of a running job by an answer that another one got just now, else asks the upstream."""
        polls = self._parts.jobs.shared_polls
        answer = polls.find(job, poll, age)
        if answer is None and age:
            await polls.wait(job, poll, order.client.household)
            answer = polls.find(job, poll, age)
        if answer is not None:
            await self._share(order, job, answer)
            return
        question = polls.begin(job, poll) if age else None
        try:
            await self._forwarder.forward(order._replace(question=question))
        finally:
            if question is not None:
                question.close()

    async def _share(self, order: ForwardOrder, job: Job, answer: StatusAnswer) -> None:
        """Answers by what another request of the same owner got, once it is sure that both still own the job."""
        await self._parts.jobs.confirm(job)
        self._forwarder.recheck_if_stale(order)
        self._forwarder.share(order, answer)

    async def _serve_named_in_body(self, order: ForwardOrder) -> None:
        """Serves a request about a job whose id is in its body: reads the body, finds the owner, then forwards."""
        prepared, jobs = order.prepared, self._parts.jobs
        if not prepared.headers.has_body:
            raise refuse(Reason.BODY_MALFORMED, f"The body has to name the job ({prepared.permit.route.id_name}).")
        body_format(prepared.headers.known, BodyFormat.JSON)
        content = await read_whole(order, MAX_BYTES, self._parts.unverified)
        self._forwarder.recheck_if_stale(order)
        job = await jobs.own_named_in(content, prepared)
        order = order._replace(content=content, job=job)
        if prepared.permit.route.kind is Kind.DELETE:
            order = await self._delete(order, job)
        try:
            await self._forwarder.forward(order)
        finally:
            self._note_taken(order, job)

    def _take_poll(self, prepared: PreparedRequest, now: float) -> None:
        polls_per_minute = prepared.permit.profile.polls_per_minute
        wait = self._polls.take(prepared.subject, now, polls_per_minute)
        if wait is not None:
            detail = f"This account may ask {polls_per_minute} times a minute (polls_per_minute)."
            raise Refused(Denial(Reason.RATE_LIMITED, detail, retry_after=wait))

    async def _hold(self, order: ForwardOrder, job: Job, most: float) -> None:
        """Waits for a job's end, some seconds at most, as its client wishes."""
        began = self._clock()
        await self._parts.jobs.long_polls.until_ended(job, most, order.client.household)
        order.delivery.held = self._clock() - began

    async def _delete(self, order: ForwardOrder, job: Job) -> ForwardOrder:
        """Makes a job unreadable before the upstream gets the delete, once it is known how a running one stands."""
        await self._parts.jobs.learn_end(job)
        self._forwarder.recheck_if_stale(order)
        before = self._clock() + _DELETE_WITHIN  # from here on: the ledger's answer may take its time
        await self._parts.jobs.completion.forget_now(job)
        return order._replace(delete_before=before)

    def _note_taken(self, order: ForwardOrder, job: Job) -> None:
        """Lets the audit trail know who was given a job's result first, and the ledger that somebody was."""
        if not has_taken_result(order):
            return
        self._parts.jobs.completion.mark_taken(job)
        if not job.is_read:
            permit = order.prepared.permit
            self._parts.trail.read(job, permit.account, str(permit.client.ip))

    async def _serve_other(self, order: ForwardOrder, now: float) -> None:
        """Steps 7 to 9 of what names no job in its target."""
        permit = order.prepared.permit
        self._take_poll(order.prepared, now)
        if permit.route.kind is not Kind.PLAIN:
            await self._serve_named_in_body(order)
        elif not permit.route.is_ours:
            await self._forward_plain(order)
        elif permit.route in ALIVE:
            self._answer(order, _ALIVE)
        elif permit.identity is not None:
            await self._tell_of_account(order)
        else:  # webhooks are the only routes of ours without a caller
            await self._receive_webhook(order)

    async def _forward_plain(self, order: ForwardOrder) -> None:
        """Forwards a request of a plain route, within the account's concurrent_requests."""
        account = order.prepared.subject
        denial = self._places.take(account, order.prepared.permit.profile)
        if denial is not None:
            raise Refused(denial)
        try:
            await self._forwarder.forward(order)
        finally:
            self._places.give_back(account)

    async def _tell_of_account(self, order: ForwardOrder) -> None:
        """Answers GET /gateway/v1/me."""
        permit = order.prepared.permit
        standing = await self._parts.admission.tell(permit)
        self._forwarder.recheck_if_stale(order)
        self._answer(order, orjson.dumps(account_report(permit, standing, self._wall())))

    async def _receive_webhook(self, order: ForwardOrder) -> None:
        """Takes what is posted to /gateway/v1/webhooks/<name>: its signature is its credential."""
        prepared, receiver = order.prepared, self._parts.receiver
        name = prepared.permit.path.rpartition("/")[2]
        headers: dict[bytes, list[bytes]] = {}
        for header, value in prepared.headers.kept:
            headers.setdefault(header.lower(), []).append(value)
        most = receiver.expect(name, headers)
        content = await read_whole(order, most, self._parts.unverified)
        self._forwarder.recheck_if_stale(order)
        answered = await receiver.take(name, headers, content, order.trace.request_id.decode("ascii"))
        self._answer(order, answered.body)

    def _answer(self, order: ForwardOrder, content: bytes) -> None:
        """Answers by itself, with JSON."""
        client = order.client
        order.delivery.status, order.delivery.sent = 200, len(content)
        unread = not order.body.is_eof()
        closes = unread or self._live.is_draining or client.is_retired or not order.prepared.headers.keep_alive
        bodiless = order.prepared.method == "HEAD"
        client.send(own_answer(content, order.trace.request_id, self._date(), closes=closes, bodiless=bodiless))
        client.is_last = closes

    async def _refuse(self, client: ClientConnection, body: StreamReader, exchange: Exchange, denial: Denial) -> None:
        """Answers with a problem, unless an answer has begun or nobody is there to read it."""
        self._note(exchange, denial.reason, denial.detail)
        exchange.why = denial.why
        has_begun = exchange.delivery is not None and exchange.delivery.status
        if has_begun or client.is_gone:
            client.abort()
            return
        unread = not body.is_eof()
        closes = unread or self._live.is_draining or client.is_retired or not exchange.keep_alive
        bodiless = exchange.method == "HEAD"
        client.send(problem(denial, exchange.request_id, self._date(), closes=closes, bodiless=bodiless))
        exchange.ended = self._clock()
        if closes:
            client.is_last = True
        if unread and not client.is_coded and not _waits_for_invitation(client, exchange):
            await drain(client, body)

    def _note(self, exchange: Exchange, reason: Reason, detail: str) -> None:
        verdict = VERDICTS[reason]
        delivery = exchange.delivery
        exchange.status = delivery.status if delivery is not None and delivery.status else verdict.status
        exchange.reason = reason
        exchange.source = verdict.source
        exchange.detail = detail


def _recognize(client: ClientConnection, state: State, request: RawRequestMessage) -> CachedHeaders:
    """What these headers mean; remembered when the connection sent the same ones before."""
    cached: CachedHeaders | None = client.cached_headers
    if cached is None or not cached.is_same(state, request.version, request.raw_headers):
        cached = client.cached_headers = cache_headers(state, client.peer, request.version, request.raw_headers)
    return cached


def _waits_for_invitation(client: ClientConnection, exchange: Exchange) -> bool:
    """Whether the client holds its body back for a 100 Continue, so that there is nothing to drain."""
    was_read = exchange.trace is not None and client.cached_headers is not None
    return was_read and client.cached_headers is not None and client.cached_headers.headers.expects_continue
