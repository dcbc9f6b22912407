"""The way of a request, top to bottom; from step 7 on a submit's is in submits.py, a poll's in job_requests.py.

 1 state      one compiled configuration, to the end            7 admit      rate and concurrency, before the body
 2 head       what the parser lets through and we do not        8 body       invited only now; capped, inspected, its
 3 address    whom do we believe                                             pages reserved before its end is released
 4 route      default-deny, then the address rules              9 forward    strip, add, stream both ways
 5 identity   one credential, or none where none is asked      10 settle     what is held is given back or charged
 6 decide     may this caller do this, this large              11 observe    once, whatever became of it

Up to 6 the head alone decides: not one byte of a body has been asked for. `__call__` is the one boundary: whatever
is raised below becomes an answer (or a cut connection, once an answer has begun), a log event and a count there.

What the steps have in hand: the Exchange is the record of the request, for 11, and its Delivery that of what went
upstream and came back; a PreparedRequest is what 4 to 6 permit; a ForwardOrder has all that 7 to 9 need of it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.auth.validity import check_required_certificate
from gateway.authorize.cached_headers import CachedHeaders, cache_headers
from gateway.authorize.login import Evidence, Login
from gateway.authorize.permit import make_permit
from gateway.authorize.preparation import prepare_request
from gateway.authorize.prepared_request import PreparedRequest, RequestLine
from gateway.config.state import Live, State
from gateway.errors import ClientGone, Refused, UpstreamFailed, whereabouts
from gateway.http.headers import origin_form, read_target
from gateway.http.trace import trace_of
from gateway.limits.concurrency import plain_requests
from gateway.limits.poll_rate import PollRate
from gateway.listener.connection import ClientConnection
from gateway.listener.request_reader import Request
from gateway.model.identity import ClientCertificate, Identity
from gateway.model.reasons import Denial, Reason, Source
from gateway.model.request import Delivery, Exchange
from gateway.model.routes import Access, Kind, Route
from gateway.observe.observer import Observer
from gateway.policy.body_limits import check_length
from gateway.policy.route_access import check_access, check_address, check_takes_body
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.job_requests import JobRequests
from gateway.proxy.own_requests import OwnRequests
from gateway.proxy.request_body import drain
from gateway.proxy.responses import Responses
from gateway.proxy.submits import SubmitRequests

_INTERNAL: Final = "The gateway failed; its log says where."
RECHECK_AFTER: Final = 1.0  # seconds
log = structlog.get_logger()


class HandlerParts(NamedTuple):
    """What the handler works with. `uses` takes when a secret was used; `wall` is in seconds since the epoch."""

    live: Live
    login: Login
    submits: SubmitRequests
    job_requests: JobRequests
    own_requests: OwnRequests
    forwarder: Forwarder
    responses: Responses
    observer: Observer
    wall: Callable[[], float]
    uses: dict[tuple[str, int], float]


class Handler:
    """Serves the requests of the public listener.

    `clock` is the loop's, in seconds; `new_id` gives 32 hexadecimal digits.
    """

    def __init__(self, parts: HandlerParts, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._live = parts.live
        self._login = parts.login
        self._submits = parts.submits
        self._job_requests = parts.job_requests
        self._own_requests = parts.own_requests
        self._forwarder = parts.forwarder
        self._responses = parts.responses
        self._observer = parts.observer
        self._wall = parts.wall
        self._uses = parts.uses
        self._clock = clock
        self._new_id = new_id
        self._rate = PollRate()
        self._slots = plain_requests()

    async def __call__(self, client: ClientConnection, request: Request, body: StreamReader) -> None:
        """Serves one request; raises nothing."""
        exchange = Exchange(self._new_id(), self._clock(), client.peer_ip, client.peer_ip)
        self._observer.count_started()
        try:
            try:
                await self._serve(client, request, body, exchange)
            except Refused as refused:
                refused.__traceback__ = None  # its calls hold it, and the connection: until a garbage collection
                await self._responses.refuse(client, body, exchange, refused.denial)
            except UpstreamFailed as failure:
                failure.__traceback__ = None  # likewise
                denial = Denial(failure.reason, str(failure), failure.retry_after)
                await self._responses.refuse(client, body, exchange, denial)
            except ClientGone as gone:
                exchange.note_outcome(gone.reason, str(gone))
                client.abort()
        except Exception as error:  # noqa: BLE001 -- the boundary: a fault of ours is a 500 and an event
            log.error("internal error", request_id=exchange.request_id, error=whereabouts(error))
            await self._responses.refuse(client, body, exchange, Denial(Reason.INTERNAL, _INTERNAL))
        finally:
            exchange.ended = exchange.ended or self._clock()
            self._observer.record(exchange)  # 11

    async def _serve(
        self, client: ClientConnection, request: Request, body: StreamReader, exchange: Exchange
    ) -> None:
        """Steps 1 to 10: whoever holds something since 7 gives it back in 10, on every path."""
        state = self._live.state  # 1
        if isinstance(request, Refused):  # by the parser, or by who read for it
            raise request
        exchange.method = request.method
        cached = self._read_head(state, client, request, exchange)  # 2, 3
        trace = exchange.trace = trace_of(exchange.request_id, cached.request_id, cached.passed_on, self._new_id)
        exchange.request_id = cached.request_id or exchange.request_id
        prepared = cached.prepared
        if prepared is None or not prepared.is_for(request.method, request.path, exchange.started):
            prepared = cached.prepared = await self._permit(state, cached, client, request, exchange)  # 4 to 6
        exchange.keep_alive = cached.headers.keep_alive  # as _permit notes, which a request like the last one skips
        exchange.note_permit(prepared.permit)
        if prepared.use is not None:
            self._uses[prepared.use] = exchange.started

        delivery = exchange.delivery = Delivery()
        order = ForwardOrder(client, body, prepared, trace, delivery, None, cached.job_for(prepared))
        if prepared.permit.route.kind is Kind.SUBMIT:
            await self._submits.serve(state, order)  # 7 to 10
        else:
            await self._serve_other(state, cached, order, exchange.started)  # 7 to 10
        await self._finish(order, exchange)

    @staticmethod
    def _read_head(
        state: State, client: ClientConnection, request: RawRequestMessage, exchange: Exchange
    ) -> CachedHeaders:
        """What these headers mean; remembered when the connection sent the same ones before."""
        cached: CachedHeaders | None = client.cached_headers
        if cached is None or not cached.is_same(state, request.version, request.raw_headers):
            cached = client.cached_headers = cache_headers(state, client.peer, request.version, request.raw_headers)
        exchange.client_ip = cached.client_ip
        exchange.waits_for_invitation = cached.headers.expects_continue
        return cached

    async def _permit(
        self,
        state: State,
        cached: CachedHeaders,
        client: ClientConnection,
        request: RawRequestMessage,
        exchange: Exchange,
    ) -> PreparedRequest:
        """Steps 4 to 6 of the way: what is left to ask once the headers are known.

        Raises:
            Refused: it is not permitted.
        """
        host, target = origin_form(request.path)  # 4
        cached = cached.addressed_to(host)
        headers = cached.headers
        path, query = read_target(request.method, target)
        exchange.keep_alive = headers.keep_alive  # the head is sound: a refusal from here on need not close
        path = state.routes.unaliased(path)
        rule = state.routes.match(request.method, path, headers.host, asked=target)
        exchange.route = rule.route.label
        check_address(cached.address, cached.is_allowed, rule)
        if state.needs_certificate:
            check_required_certificate(client.peer.certificate, self._wall())

        identity = await self._identify(state, rule.route, cached, client, exchange)  # 5
        permit = make_permit(state, rule, path, query, cached.address, identity)  # 6
        check_length(headers.content_length, permit.body_limit)
        line = RequestLine(request.method, request.path)
        good_until = exchange.started + self._trusted_for(identity, client.peer.certificate)
        return prepare_request(state, cached, line, query, permit, good_until)

    async def _identify(
        self, state: State, route: Route, cached: CachedHeaders, client: ClientConnection, exchange: Exchange
    ) -> Identity | None:
        """Who calls, and may use this route; nobody is asked where anybody may."""
        headers = cached.headers
        if route.access is not Access.ANYONE:
            evidence = Evidence(cached.address, client.peer.certificate)
            attempt = await self._login.attempt(state, headers.known, evidence, exchange.started)
            exchange.authentication, exchange.key_id = attempt.label, attempt.key_id
            exchange.owner = attempt.identity.owner if attempt.identity is not None else None
            identity = attempt.identity_or_refuse()
            check_access(route, identity, cached.address)
            client.note_identity()
            return identity
        if headers.has_body:
            check_takes_body(route, exchange.method)
        if route.kind.is_about_jobs:
            client.note_identity()  # where nobody is asked, these are the customers
        return None

    def _trusted_for(self, identity: Identity | None, certificate: ClientCertificate | None) -> float:
        """Seconds until a caller has to be checked again: a second, or less when what it came with ends before."""
        ends = (identity.expires_at if identity else None, certificate.not_after if certificate else None)
        soonest = min((end for end in ends if end is not None), default=None)
        return RECHECK_AFTER if soonest is None else min(RECHECK_AFTER, soonest - self._wall())

    async def _serve_other(self, state: State, cached: CachedHeaders, order: ForwardOrder, now: float) -> None:
        """Steps 7 to 10 of what starts no job."""
        self._count_request(order.prepared, now)  # 7
        permit = order.prepared.permit
        if permit.job_id is not None:
            await self._job_requests.serve(state, cached, order)
        elif permit.names_job_in_body:
            await self._job_requests.serve_named_in_body(order)
        elif not permit.route.is_ours:
            await self._forward_plain(order)
        else:
            await self._own_requests.serve(order)

    def _count_request(self, prepared: PreparedRequest, now: float) -> None:
        polls_per_minute = prepared.permit.profile.polls_per_minute
        wait = self._rate.take(prepared.subject, now, polls_per_minute)
        if wait is not None:
            detail = f"This account may ask {polls_per_minute} times a minute (polls_per_minute)."
            raise Refused(Denial(Reason.RATE_LIMITED, detail, retry_after=wait))

    async def _forward_plain(self, order: ForwardOrder) -> None:
        """Forwards a request of a plain route, within the account's concurrent_requests."""
        account = order.prepared.subject
        denial = self._slots.take(account, order.prepared.permit.profile)  # 7
        if denial is not None:
            raise Refused(denial)
        try:
            await self._forwarder.forward(order)  # 8, 9
        finally:
            self._slots.give_back(account)  # 10

    async def _finish(self, order: ForwardOrder, exchange: Exchange) -> None:
        """Notes what became of a request that was answered, and drops what is left of its body."""
        exchange.status = order.delivery.status
        exchange.ended = self._clock()
        if order.prepared.permit.route.is_ours:
            exchange.reason, exchange.source = Reason.ANSWERED, Source.GATEWAY
        if order.client.is_gone:
            exchange.note_outcome(Reason.CLIENT_GONE, "The client left after its request was released upstream.")
        elif not order.body.is_eof():
            await drain(order.client, order.body)
