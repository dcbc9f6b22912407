"""The answers that the gateway writes itself: JSON on routes of its own, and refusals."""

from collections.abc import Callable

from aiohttp.streams import StreamReader

from gateway.http.problem import own_answer, problem
from gateway.listener.connection import ClientConnection
from gateway.model.reasons import Denial
from gateway.model.request import Exchange
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.request_body import drain


class Responses:
    """Writes answers. `date` gives the value of a Date header; `clock` is the loop's, in seconds."""

    def __init__(self, date: Callable[[], bytes], clock: Callable[[], float]) -> None:
        self._date = date
        self._clock = clock

    def answer(self, order: ForwardOrder, content: bytes) -> None:
        """Answers with JSON."""
        client = order.client
        closes = client.closes_after_ours(order.body, keep_alive=order.prepared.headers.keep_alive)
        bodiless = order.prepared.method == "HEAD"
        answer = own_answer(content, order.trace.request_id, self._date(), closes=closes, bodiless=bodiless)
        order.delivery.status, order.delivery.sent = 200, len(content)
        client.out.send(answer)
        if closes:
            client.end_after_this()

    async def refuse(self, client: ClientConnection, body: StreamReader, exchange: Exchange, denial: Denial) -> None:
        """Answers with a problem, unless an answer has begun or nobody is there to read it."""
        exchange.note_outcome(denial.reason, denial.detail)
        exchange.title, exchange.why, exchange.bearer = denial.title, denial.why, denial.bearer
        has_begun = exchange.ended or (exchange.delivery is not None and exchange.delivery.status)
        if has_begun or client.is_gone:
            client.abort()
            return
        closes = client.closes_after_ours(body, keep_alive=exchange.keep_alive)
        bodiless = exchange.method == "HEAD"
        client.out.send(problem(denial, exchange.request_id, self._date(), closes=closes, bodiless=bodiless))
        exchange.ended = self._clock()
        if closes:
            client.end_after_this()
        if not body.is_eof() and not client.is_coded and not exchange.waits_for_invitation:
            await drain(client, body)
