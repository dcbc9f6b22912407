"""Expired jobs: no one may read them any more, and the upstream is asked to delete them.

The ledger records what has expired, so a restart loses nothing. Replicas may do this at the same time: expiring a job
twice equals expiring it once. Then the upstream gets delete requests until it confirms; it can't bring a job back.
Each goes out at once or not at all: the id may be another job's soon.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final

import structlog
from sqlalchemy import Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, UpstreamFailed
from gateway.jobs.registry import Registry
from gateway.ledger.jobs import AT_ONCE, expired, first_expiry, forget, named, purge, told
from gateway.ledger.news import Question
from gateway.ledger.replica import Replica
from gateway.ledger.schema import JobState
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.job_api import delete_request
from gateway.upstream.response_head import ResponseHead

_ASKED_AGAIN_AFTER: Final = 60.0  # seconds
_NOT_LONGER_THAN: Final = 86_400.0
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
        self._due = Question(replica.ledger.version)

    async def sweep(self) -> None:
        """Expires what is due, a batch at a time and for some seconds at most; called each second.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        until = self._clock() + _SWEEP_SECONDS
        for row in await self._expired():
            job = self._registry.get((row.upstream, row.request_id))
            if job is not None and job.named == named(row):
                job.end(0)
                self._registry.drop(job)
            if row.state != JobState.GONE:
                await self._ledger.write(lambda c, row=row: forget(c, named(row), self._wall()))  # type: ignore[misc]
            await self._delete(row)
            if self._clock() >= until:
                return

    async def _expired(self) -> list[Row[Any]]:
        now = self._wall()
        if not await self._due.is_open(now):
            return []
        first = await self._ledger.read(first_expiry)
        self._due.answered(inf if first is None else first)
        return [] if first is None or first > now else await self._ledger.read(lambda c: expired(c, now))

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
        is_too_late = row.ended_at is not None and self._wall() - row.ended_at > _NOT_LONGER_THAN
        if is_too_late or (shape is not None and shape.delete is None):
            await self._told(row, None)
            return
        before = self._clock() + _SENT_WITHIN  # from here on: the ledger's answer may take its time
        if not await self._told(row, int(self._wall() + _ASKED_AGAIN_AFTER)):
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

    async def _told(self, row: Row[Any], again_at: int | None) -> bool:
        return await self._ledger.write(lambda c: told(c, row, again_at, self._wall()))


class DroppedAnswer:
    """Discards an answer."""

    def begin(self, head: ResponseHead) -> None:
        """Ignores its head."""

    def take(self, data: bytes) -> None:
        """Drops the next bytes."""

    async def end(self) -> None:
        """Does nothing."""
