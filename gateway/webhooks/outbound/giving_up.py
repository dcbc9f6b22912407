"""Gives up the deliveries whose destinations failed for too long, and counts those that are left.

Who was attempted is given up by the dispatcher, with the last attempt. Here go those that nobody attempts: those that
wait for a destination that is paused, and those whose turn never came.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from gateway.errors import LedgerUnavailable
from gateway.ledger.deliveries import Late, Line, failing, find_late, give_up, untried
from gateway.ledger.engine import OF_WEBHOOKS
from gateway.ledger.ledger import Ledger
from gateway.ledger.listings import counts
from gateway.model.times import Times
from gateway.webhooks.outbound.circuit_breaker import Breaker
from gateway.webhooks.outbound.metrics import WebhookMetrics
from gateway.webhooks.outbound.outcome import Result

_LONG: Final = 3
"""Times give_up_after: whatever was never attempted in that time is given up. Of an owner's hundreds of destinations
the circuit breaker forgets those that failed first."""

_BATCHES: Final = 20  # of 200, in each look: others write, and are sent, in between
_LINES: Final = 100  # destinations in one transaction
log = structlog.get_logger()


class GivingUp:
    """Looks after what waits, from the moment on when it is made. Belongs to one event loop."""

    def __init__(self, ledger: Ledger, breaker: Breaker, metrics: WebhookMetrics, times: Times) -> None:
        self._ledger = ledger
        self._breaker = breaker
        self._metrics = metrics
        self._wall = times.wall
        self._clock = times.monotonic
        self._began = times.monotonic()
        self._counting: asyncio.Task[None] | None = None

    async def look(self, patience: float) -> None:
        """Gives up what has waited for more than `patience` seconds (give_up_after), and updates the metrics.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        now = self._clock()
        for_long = self._breaker.failing_since(now - patience)
        others = [line for line in self._breaker.rooms(now) if line not in for_long]
        await self._give_up(others, patience, least_attempts=1)
        await self._give_up(for_long, patience, least_attempts=0)
        if now - self._began >= patience:  # else all may be late because no replica ran
            await self._give_up_batches(untried(self._wall() - _LONG * patience))
        self._breaker.forget_old(self._clock())
        if self._counting is None or self._counting.done():
            self._counting = asyncio.get_running_loop().create_task(self._count_states())

    async def close(self) -> None:
        """Ends the counting."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])

    async def _give_up(self, lines: Sequence[Line], patience: float, *, least_attempts: int) -> None:
        now = self._wall()
        for start in range(0, len(lines), _LINES):
            some = lines[start : start + _LINES]
            await self._give_up_batches(failing(some, now - patience, now, least_attempts=least_attempts))

    async def _give_up_batches(self, late: Late) -> None:
        """Finds them by a report: to go through 300,000 that wait would keep all others from writing."""
        now = self._wall()
        for _ in range(_BATCHES):
            found = await self._ledger.report(partial(find_late, late=late))
            if not found:
                break
            work = partial(give_up, found=found, late=late, now=now)
            for delivery in await self._ledger.write(work, in_turn_of=OF_WEBHOOKS):
                self._metrics.count_attempt(Result.DEAD)
                log.error("webhook given up", delivery=delivery.id, destination=delivery.destination)

    async def _count_states(self) -> None:
        """Goes through all that is on record: apart, for it may wait for a minute behind other reports."""
        with suppress(LedgerUnavailable):  # the next one tells
            self._metrics.set_states(await self._ledger.report(counts))
