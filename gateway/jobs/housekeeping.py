"""Each second: apply other replicas' changes, expire results, take over jobs of dead replicas; each minute: purge.

In four tasks: however long it takes to expire thousands of results, this replica hears of changes and does not count
as dead; and however long to remove old records, results expire and jobs are taken over.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from gateway.aio.periodic import take_turns
from gateway.jobs.failover import Failover
from gateway.jobs.retention import Retention
from gateway.ledger.jobs import count
from gateway.ledger.ledger import Ledger

_BEAT_EVERY: Final = 5  # turns, of a second each
_TAKE_OVER_EVERY: Final = 5
_COUNT_EVERY: Final = 10
_RECALL_EVERY: Final = 60
_PURGE_EVERY: Final = 60
log = structlog.get_logger()


class Housekeeping:
    """All `run`s run until cancelled. `counts` is the number of jobs by state, as of the last count."""

    def __init__(
        self,
        ledger: Ledger,
        failover: Failover,
        retention: Retention,
        retry_pending: Callable[[], None],
        *purges: Callable[[], Awaitable[object]],
    ) -> None:
        self._ledger = ledger
        self._failover = failover
        self._retention = retention
        self._retry_pending = retry_pending
        self._purges = purges
        self._is_beat_due = True
        self.counts: dict[str, int] = {}

    async def run_changes(self) -> None:
        """Hears each second what other replicas changed."""
        await take_turns(lambda _: self.hear(), _log_error)

    async def run_heartbeat(self) -> None:
        """Sends the heartbeat every few seconds; one that was not sent, a second later."""
        await take_turns(self.beat, _log_error)

    async def run_purges(self) -> None:
        """Removes old records each minute."""
        await take_turns(self.purge, _log_error)

    async def run(self) -> None:
        """Runs one turn of all else each second."""
        await take_turns(self.turn, _log_error)

    async def hear(self) -> None:
        """Applies what other replicas changed.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        await self._failover.hear()
        self._retry_pending()  # the ledger just answered

    async def beat(self, turn: int) -> None:
        """Sends the heartbeat, if it is due.

        Raises:
            LedgerUnavailable: it is still due.
        """
        self._is_beat_due = self._is_beat_due or turn % _BEAT_EVERY == 0
        if self._is_beat_due:
            await self._failover.beat()
            self._is_beat_due = False

    async def turn(self, turn: int) -> None:
        """Does what is due in one turn.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        due: list[Callable[[], Awaitable[object]]] = []
        if turn % _TAKE_OVER_EVERY == 0:
            due.append(self._failover.take_over)
        if turn % _RECALL_EVERY == _RECALL_EVERY - 1:
            due.append(self._failover.recall)
        due.append(self._retention.sweep)
        if turn % _COUNT_EVERY == 0:
            due.append(self._count)
        await _do_all(due)

    async def purge(self, turn: int) -> None:
        """Removes old records, if it is due.

        Raises:
            LedgerUnavailable: some are left.
        """
        if turn % _PURGE_EVERY == 0:
            await _do_all([self._retention.purge, *self._purges])

    async def _count(self) -> None:
        self.counts = await self._ledger.read(count)


async def _do_all(works: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Does each, whatever became of those before it.

    Raises:
        Exception: the first that failed did so.
    """
    failures: list[Exception] = []
    for work in works:
        try:
            await work()
        except Exception as failure:  # noqa: BLE001 -- raised when all are done
            failures.append(failure)
    if failures:
        raise failures[0]


def _log_error(error: str) -> None:
    log.error("jobs could not be followed", error=error)
