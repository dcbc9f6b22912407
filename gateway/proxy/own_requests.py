"""Serves requests that the gateway answers itself: for its health, an account's limits and use; incoming webhooks."""

from collections.abc import Callable
from functools import partial
from typing import Final

import orjson

from gateway.admission.admission import Admission
from gateway.admission.unverified_bodies import UnverifiedBodies
from gateway.config.own_routes import HEALTH_ROUTES, ME, WEBHOOKS
from gateway.limits.report import account_report
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.request_body import BodyCheck, read_whole
from gateway.proxy.responses import Responses
from gateway.proxy.still_permitted import StillPermitted
from gateway.webhooks.inbound.inbound_receiver import Receiver

_HEALTHY: Final = b'{"status":"ok"}'


class OwnRequests:
    """Serves them. `wall` is in seconds since the epoch."""

    def __init__(
        self,
        admission: Admission,
        receiver: Receiver,
        unverified: UnverifiedBodies,
        still_permitted: StillPermitted,
        responses: Responses,
        wall: Callable[[], float],
    ) -> None:
        self._admission = admission
        self._receiver = receiver
        self._unverified = unverified
        self._still_permitted = still_permitted
        self._responses = responses
        self._wall = wall
        self._answers = {
            ME.route: self._answer_me,
            WEBHOOKS.route: self._receive_webhook,
            **dict.fromkeys(HEALTH_ROUTES, self._answer_healthy),
        }

    async def serve(self, order: ForwardOrder) -> None:
        """Steps 8 and 9.

        Raises:
            Refused: the account's use can't be read; the webhook is not one that is taken.
        """
        await self._answers[order.prepared.permit.route](order)

    async def _answer_healthy(self, order: ForwardOrder) -> None:
        """Answers GET /api/v1/health and /api/v1/user_health, as Datalab's cloud does."""
        self._responses.answer(order, _HEALTHY)

    async def _answer_me(self, order: ForwardOrder) -> None:
        """Answers GET /gateway/v1/me."""
        permit = order.prepared.permit
        counts = await self._admission.read_counts(permit)
        self._still_permitted.check_if_stale(order)
        self._responses.answer(order, orjson.dumps(account_report(permit, counts, self._wall())))

    async def _receive_webhook(self, order: ForwardOrder) -> None:
        """Takes what is posted to /gateway/v1/webhooks/<name>: its signature is its credential."""
        prepared, receiver = order.prepared, self._receiver
        name = prepared.permit.path.rpartition("/")[2]
        headers: dict[bytes, list[bytes]] = {}
        for header, value in prepared.headers.kept:
            headers.setdefault(header.lower(), []).append(value)
        expected = receiver.expect(name, headers)
        check = BodyCheck(expected.check.take, partial(receiver.follow, expected))
        content = await read_whole(order, expected.limit, self._unverified, check)
        self._still_permitted.check_if_stale(order)
        answer = await receiver.take(expected, content, order.trace.request_id.decode("ascii"))
        self._responses.answer(order, answer)
