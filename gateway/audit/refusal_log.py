"""Writes refused and failed requests to the ledger, in the background: `gateway explain --request-id` reads them.

No request waits for it, and it is bounded: strangers beyond some a second are summed up (observe/
refusal_sampling.py); so many of one owner, and of all together, are kept in a second; what the ledger can't take is
dropped and counted, as is a second row of one id (a proxy may let clients choose it); and a row lives for a day, if
not so many come that the oldest have to go.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.aio.periodic import take_turns
from gateway.audit.unwritten import Unwritten
from gateway.errors import LedgerUnavailable, ValueNotKept
from gateway.ledger import refusals
from gateway.ledger.ledger import Ledger
from gateway.ledger.refusals import RefusalRow
from gateway.model.printable import printable
from gateway.model.reasons import VERDICTS, Reason
from gateway.model.request import Exchange
from gateway.observe.refusal_sampling import Sum
from gateway.units import DAY

_AT_ONCE: Final = 100
_MOST: Final = 2000
_BATCHES: Final = 20  # in one turn
_OF_ONE: Final = 20  # rows of one owner in one turn
_OF_ALL: Final = 200
_PURGE: Final = 60
_LONGEST: Final = 500
_ID: Final = 64
_TITLE: Final = 100
log = structlog.get_logger()


async def _note_singly(ledger: Ledger, rows: Sequence[RefusalRow]) -> int:
    """Writes each row by itself; returns how many the ledger can't keep.

    Raises:
        LedgerUnavailable: some may have been written, and are ignored when they come again.
    """
    without = 0
    for row in rows:
        try:
            without += await ledger.write(partial(refusals.note, rows=[row]))
        except ValueNotKept:
            without += 1
    return without


def _detail(exchange: Exchange) -> str | None:
    """For operators alone: with the audience of a refused token, which no answer has."""
    if exchange.reason is Reason.FORWARDED:
        return "the container answered so"
    audience = exchange.bearer.audience if exchange.bearer else None
    return exchange.detail if audience is None else f"{exchange.detail} Its aud is {audience or 'empty'}."


class RefusalLog:
    """Runs until it is cancelled. `wall` is in seconds since the epoch, `new_id` gives ids for sums."""

    def __init__(self, wall: Callable[[], float], new_id: Callable[[], str], most: int = _MOST) -> None:
        self._wall = wall
        self._new_id = new_id
        self._waiting: Unwritten[RefusalRow] = Unwritten(most)
        self._in_turn: Counter[str] = Counter()  # rows by owner
        self._in_turn_of_all = 0
        self._is_behind = False  # there may be more to purge
        self.dropped = 0

    def note(self, exchange: Exchange) -> None:
        """Takes the record of a request that was refused, or that failed."""
        if self._is_too_many(exchange.owner or exchange.name):
            self.dropped += 1
            return
        detail = _detail(exchange)
        self._put(
            RefusalRow(
                request_id=exchange.request_id[:_ID],
                at=int(self._wall()),
                requests=1,
                status=exchange.status,
                reason=str(exchange.reason),
                why=None if exchange.why is None else str(exchange.why),
                route=exchange.route,
                method=exchange.method[:8],
                key_id=exchange.name,
                client=exchange.client_ip,
                detail=None if detail is None else printable(detail[:_LONGEST]),
                title=None if exchange.title is None else exchange.title[:_TITLE],
            )
        )

    def sum_up(self, found: Sum) -> None:
        """Takes refusals of strangers that got no row of their own."""
        for reason, count in found.reasons.items():
            self._put(
                RefusalRow(
                    request_id=f"sum-{self._new_id()}",
                    at=int(self._wall()),
                    requests=count,
                    status=VERDICTS[Reason(reason)].status,
                    reason=reason,
                    why=None,
                    route="-",
                    method="-",
                    key_id=None,
                    client=found.client,
                    detail=None,
                )
            )

    async def run(self, ledger: Ledger) -> None:
        """Writes each second what waits, and forgets what is old."""
        failed = lambda error: log.error("refusals could not be written", error=error)  # noqa: E731 -- a message
        await take_turns(partial(self.turn, ledger), failed)

    async def turn(self, ledger: Ledger, turn: int) -> None:
        """Does the work of one turn.

        Raises:
            LedgerUnavailable: some of it waits on.
        """
        self._in_turn.clear()
        self._in_turn_of_all = 0
        if self._is_behind or turn % _PURGE == 0:
            await self._purge(ledger)
        await self._write(ledger)

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

    def _is_too_many(self, whose: str | None) -> bool:
        """Of what comes before the permit the owner is not known: then it is a key's or a refused bearer's."""
        if self._in_turn_of_all >= _OF_ALL or (whose is not None and self._in_turn[whose] >= _OF_ONE):
            return True
        self._in_turn_of_all += 1
        if whose is not None:
            self._in_turn[whose] += 1
        return False

    async def _purge(self, ledger: Ledger) -> None:
        self._is_behind = True
        for _ in range(_BATCHES):
            if await ledger.write(lambda c: refusals.purge(c, self._wall() - DAY)) < refusals.AT_ONCE:
                self._is_behind = False
                return

    def _put(self, row: RefusalRow) -> None:
        if self._waiting.put(row) is not None:
            self.dropped += 1

    async def _write(self, ledger: Ledger) -> None:
        for _ in range(_BATCHES):
            if not self._waiting:
                return
            with self._waiting.some(_AT_ONCE) as some:
                try:
                    self.dropped += await ledger.write(partial(refusals.note, rows=some))
                except ValueNotKept:  # of one of them, and for ever: the others are written without it
                    self.dropped += await _note_singly(ledger, some)
