"""Writes refused and failed requests to the ledger, in the background: `gateway explain --request-id` reads them.

No request waits for it, and it is bounded three times: strangers beyond some a second are summed up (observe/
refusal_sampling.py), what the ledger can't take is dropped and counted, and a row lives for a day.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.aio.periodic import take_turns
from gateway.errors import LedgerUnavailable, ValueNotKept
from gateway.ledger import refusals
from gateway.ledger.ledger import Ledger
from gateway.ledger.refusals import RefusalRow
from gateway.model.reasons import VERDICTS, Reason
from gateway.model.request import Exchange
from gateway.observe.refusal_sampling import Sum

DAY: Final = 86_400
_AT_ONCE: Final = 100
_MOST: Final = 2000
_PURGE: Final = 60
_LONGEST: Final = 500
_ID: Final = 64
log = structlog.get_logger()


class RefusalLog:
    """Runs until it is cancelled. `wall` is in seconds since the epoch, `new_id` gives ids for sums."""

    def __init__(self, wall: Callable[[], float], new_id: Callable[[], str], most: int = _MOST) -> None:
        self._wall = wall
        self._new_id = new_id
        self._most = most
        self._waiting: deque[RefusalRow] = deque()
        self.dropped = 0

    def note(self, exchange: Exchange) -> None:
        """Takes the record of a request that was refused, or that failed."""
        detail = "the container answered so" if exchange.reason is Reason.FORWARDED else exchange.detail
        self._put(
            RefusalRow(
                exchange.request_id[:_ID],
                int(self._wall()),
                1,
                exchange.status,
                str(exchange.reason),
                None if exchange.why is None else str(exchange.why),
                exchange.route,
                exchange.method[:8],
                exchange.key_id,
                exchange.client_ip,
                None if detail is None else detail[:_LONGEST],
            )
        )

    def sum_up(self, found: Sum) -> None:
        """Takes refusals of strangers that got no row of their own."""
        for reason, count in found.reasons.items():
            status = VERDICTS[Reason(reason)].status
            row_id = f"sum-{self._new_id()}"
            at = int(self._wall())
            self._put(RefusalRow(row_id, at, count, status, reason, None, "-", "-", None, found.client, None))

    async def run(self, ledger: Ledger) -> None:
        """Writes each second what waits, and forgets what is old."""
        failed = lambda error: log.error("refusals could not be written", error=error)  # noqa: E731 -- a message
        await take_turns(partial(self.turn, ledger), failed)

    async def turn(self, ledger: Ledger, turn: int) -> None:
        """Does the work of one turn.

        Raises:
            LedgerUnavailable: some of it waits on.
        """
        await self._write(ledger)
        if turn % _PURGE == 0:
            await ledger.write(lambda c: refusals.forget(c, self._wall() - DAY))

    async def close(self, ledger: Ledger, within: float) -> None:
        """Writes the rest, within `within` seconds."""
        with suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(within):
                await self._write(ledger)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        yield CounterMetricFamily(
            "gateway_refusals_dropped", "Refused requests that the ledger's log of them has not.", self.dropped
        )

    def _put(self, row: RefusalRow) -> None:
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(row)

    async def _write(self, ledger: Ledger) -> None:
        while self._waiting:
            some = list(islice(self._waiting, _AT_ONCE))
            with suppress(ValueNotKept):  # it would be refused for ever
                await ledger.write(partial(refusals.note, rows=some))
            for row in some:
                if self._waiting and self._waiting[0] is row:  # else it was dropped meanwhile
                    self._waiting.popleft()
