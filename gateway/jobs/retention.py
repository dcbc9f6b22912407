"""Expired jobs: no one may read them any more, and the upstream is asked to delete them.

The ledger records what has expired, so a restart loses nothing. Replicas may do this at the same time: expiring a job
twice equals expiring it once. Then the upstream gets delete requests until it confirms; it can't bring a job back.
Each goes out at once or not at all: the id may be another job's soon.

Only attempts count against a deletion, not the time since the job ended: its result may have been kept for days, and
the gateway may have been off for one. The wait after each attempt is a second longer than the one before it, so the
ledger's row says how many there were: `expires_at` is when that wait ends, `changed_at` when it began.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
from sqlalchemy import Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, UpstreamFailed
from gateway.jobs.registry import Registry
from gateway.ledger.jobs import AT_ONCE, expired, forget, named, purge, told
from gateway.ledger.replica import Replica
from gateway.ledger.schema import JobState
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.job_api import delete_request
from gateway.upstream.response_head import ResponseHead

_FIRST_WAIT: Final = 60  # seconds
_LAST_WAIT: Final = 420  # all waits together, each a second longer than the one before, are a day
_MILLISECONDS: Final = 1000
_WITHIN: Final = 10.0  # seconds
_SENT_WITHIN: Final = 2.0  # seconds; the ledger gives the id to another job after five at the earliest
_FIRST_BAD: Final = 300
_GONE: Final = frozenset({404, 410})
_SWEEP_SECONDS: Final = 2.0
_MAX_ASKED: Final = 32
_MAX_PURGES: Final = 50
log = structlog.get_logger()


class Retention:
    """Sweeps expired jobs. `state` returns the State in force; `clock` is the loop's."""

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        upstream_client: UpstreamClient,
        state: Callable[[], State],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = replica.ledger
        self._registry = registry
        self._upstream_client = upstream_client
        self._state = state
        self._clock = clock
        self._wall = replica.wall
        self._background = replica.background
        self._asking = 0

    async def sweep(self) -> None:
        """Expires what is due, a batch at a time and for some seconds at most; called each second.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        until = self._clock() + _SWEEP_SECONDS
        rows = await self._ledger.read(lambda c: expired(c, self._wall()))
        for row in rows:
            job = self._registry.get((row.upstream, row.request_id))
            if job is not None and job.named == named(row):
                job.end(0)
                self._registry.drop(job)
            if row.state != JobState.GONE:
                await self._ledger.write(lambda c, row=row: forget(c, named(row), self._wall()))  # type: ignore[misc]
            await self._delete(row)
            if self._clock() >= until:
                return

    async def purge(self) -> None:
        """Removes records older than jobs.records_kept, a few thousand at a time.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        before = self._wall() - self._state().settings.jobs.records_kept
        for _ in range(_MAX_PURGES):
            if await self._ledger.write(lambda c: purge(c, before)) < AT_ONCE:
                return

    async def _delete(self, row: Row[Any]) -> None:
        """Asks the upstream to delete a job, if it can; schedules the retry first, in case no answer comes."""
        state = self._state()
        shape, upstream = state.shapes.get(row.shape), state.upstreams.get(row.upstream)
        wait = next_wait(row)
        if wait is None:
            log.error("the upstream never deleted a job; it is asked no more", upstream=row.upstream)
        if wait is None or (shape is not None and shape.delete is None):
            await self._told(row, None)
            return
        before = self._clock() + _SENT_WITHIN  # from here on: the ledger's answer may take its time
        if not await self._told(row, wait):
            return
        request = None if shape is None else delete_request(shape, row.path, row.request_id)
        if request is None or upstream is None or self._asking >= _MAX_ASKED:  # a later configuration may have them
            return
        self._asking += 1

        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            self._asking -= 1
            status = outcome.status if isinstance(outcome, ResponseHead) else 0
            if 0 < status < _FIRST_BAD or status in _GONE:
                self._background.start(self._told_at_last(row))
            else:
                log.warning(
                    "the upstream did not delete a job; it is asked again", upstream=row.upstream, status=status
                )

        self._upstream_client.run(upstream, UpstreamCall(*request, before), DroppedAnswer(), _WITHIN, done)

    async def _told_at_last(self, row: Row[Any]) -> None:
        try:
            await self._told(row, None)
        except LedgerUnavailable:
            return  # the retry gets a 404: the upstream has deleted it

    async def _told(self, row: Row[Any], wait: int | None) -> bool:
        return await self._ledger.write(lambda c: told(c, row, wait, self._wall()))


def next_wait(row: Row[Any]) -> int | None:
    """How many seconds to wait after the attempt that is due; None if there were enough of them."""
    if row.state != JobState.GONE:
        return _FIRST_WAIT  # it has just been forgotten
    waited = row.expires_at - row.changed_at // _MILLISECONDS
    return None if waited >= _LAST_WAIT else max(_FIRST_WAIT, waited + 1)


class DroppedAnswer:
    """Discards an answer."""

    def begin(self, head: ResponseHead) -> None:
        """Ignores its head."""

    def take(self, data: bytes) -> None:
        """Drops the next bytes."""

    async def end(self) -> None:
        """Does nothing."""
