"""The way of a request, top to bottom.

 1 state      one compiled configuration, to the end            6 decide     may this caller do this, this large
 2 head       what the parser lets through and we do not        7 admit      rate and concurrency: their place
 3 address    whom do we believe                                8 body       invited only now; capped, streamed
 4 route      default-deny, then the address rules              9 forward    strip, add, stream both ways
 5 identity   one credential, or none where none is asked      10 observe    once, whatever became of it

Up to 6 the head alone decides: not one byte of a body has been asked for. `__call__` is the one boundary: whatever
is raised below becomes an answer (or a cut connection, once an answer has begun), a log event and a count there.
"""

from collections.abc import Callable
from typing import Final

import structlog
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.acquaintance import Acquaintance, Passage, RequestLine, make_passage, meet
from gateway.auth.login import Login
from gateway.errors import ClientGone, Refused, UpstreamFailed, whereabouts
from gateway.forward.courier import Courier, Order
from gateway.forward.relay import drain
from gateway.headers import read_target
from gateway.listener.connection import ClientConnection, Request
from gateway.model import VERDICTS, Access, Delivery, Denial, Exchange, Permit, Reason
from gateway.observe.observer import Observer
from gateway.policy import body_allowance, check_access, check_address, check_length
from gateway.problem import problem
from gateway.state import Live, State
from gateway.trace import trace_of

_INTERNAL: Final = "The gateway failed; its log says where."
log = structlog.get_logger()


class Handler:
    """Serves the requests of the public listener.

    `clock` is the loop's, in seconds; `new_id` gives 32 hexadecimal digits; `date` the value of a Date header.
    """

    def __init__(
        self,
        live: Live,
        courier: Courier,
        observer: Observer,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        date: Callable[[], bytes],
    ) -> None:
        self._live = live
        self._courier = courier
        self._observer = observer
        self._clock = clock
        self._new_id = new_id
        self._date = date
        self._login = Login()

    async def __call__(self, client: ClientConnection, request: Request, body: StreamReader) -> None:
        """Serves one request; raises nothing."""
        exchange = Exchange(self._new_id(), self._clock(), client.peer_ip, client.peer_ip)
        self._observer.began()
        try:
            await self._serve(client, request, body, exchange)
        except Refused as refused:
            await self._refuse(client, body, exchange, refused.denial)
        except UpstreamFailed as failure:
            await self._refuse(client, body, exchange, Denial(failure.reason, str(failure)))
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
        caller = _recognize(client, state, request)
        exchange.client_ip = caller.client_ip
        exchange.trace = trace_of(exchange.request_id, caller.request_id, caller.passed_on, self._new_id)
        exchange.request_id = caller.request_id or exchange.request_id

        passage = caller.passage
        if passage is None or not passage.is_for(request.method, request.path):
            passage = caller.passage = self._permit(state, caller, request, exchange)
        permit = passage.permit
        exchange.keep_alive = caller.fields.keep_alive
        exchange.route = permit.route.label
        if permit.identity is not None:
            exchange.key_id = permit.identity.key_id
            exchange.authentication = permit.identity.label

        delivery = exchange.delivery = Delivery()
        await self._courier.forward(Order(client, body, passage, exchange.trace, delivery))

        exchange.status = delivery.status
        exchange.ended = self._clock()
        if client.is_gone:
            self._note(exchange, Reason.CLIENT_GONE, "The client left after its request was released upstream.")
        elif not body.is_eof():
            await drain(client, body)

    def _permit(self, state: State, caller: Acquaintance, request: RawRequestMessage, exchange: Exchange) -> Passage:
        """Steps 2 to 6 of the way: what is left to ask once the headers are known. Raises Refused."""
        fields = caller.fields
        path, query = read_target(request.method, request.path)
        exchange.keep_alive = fields.keep_alive
        path = state.routes.unaliased(path)
        rule = state.routes.match(request.method, path, fields.host)
        exchange.route = rule.route.label
        check_address(caller.address, caller.is_allowed, rule)

        identity = None
        if rule.route.access is not Access.ANYONE:
            attempt = self._login.attempt(state, fields.known, caller.address.ip, exchange.started)
            exchange.authentication = attempt.label
            exchange.key_id = attempt.key_id
            identity = attempt.identity_or_refuse()
            check_access(rule.route, identity)

        limit = body_allowance((identity.profile if identity else state.anonymous).body_limit)
        check_length(fields.content_length, limit)
        permit = Permit(rule.route, path, caller.address, identity, limit)
        return make_passage(state, caller, RequestLine(request.method, request.path), query, permit)

    async def _refuse(self, client: ClientConnection, body: StreamReader, exchange: Exchange, denial: Denial) -> None:
        """Answers with a problem, unless an answer has begun or nobody is there to read it."""
        self._note(exchange, denial.reason, denial.detail)
        has_begun = exchange.delivery is not None and exchange.delivery.status
        if has_begun or client.is_gone:
            client.abort()
            return
        unread = not body.is_eof()
        closes = unread or self._live.is_draining or not exchange.keep_alive
        bodiless = exchange.method == "HEAD"
        client.send(problem(denial, exchange.request_id, self._date(), closes=closes, bodiless=bodiless))
        exchange.ended = self._clock()
        if closes:
            client.is_last = True
        if unread and not _waits_for_invitation(client, exchange):
            await drain(client, body)

    def _note(self, exchange: Exchange, reason: Reason, detail: str) -> None:
        verdict = VERDICTS[reason]
        delivery = exchange.delivery
        exchange.status = delivery.status if delivery is not None and delivery.status else verdict.status
        exchange.reason = reason
        exchange.source = verdict.source
        exchange.detail = detail


def _recognize(client: ClientConnection, state: State, request: RawRequestMessage) -> Acquaintance:
    """What these headers mean; remembered when the connection sent the same ones before."""
    caller = client.caller
    if caller is None or not caller.is_same(state, request.version, request.raw_headers):
        caller = client.caller = meet(state, client.peer, request.version, request.raw_headers)
    return caller


def _waits_for_invitation(client: ClientConnection, exchange: Exchange) -> bool:
    """Whether the client holds its body back for a 100 Continue, so that there is nothing to drain."""
    was_read = exchange.trace is not None and client.caller is not None
    return was_read and client.caller is not None and client.caller.fields.expects_continue
