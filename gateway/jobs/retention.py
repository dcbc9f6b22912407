"""Expired jobs: no one may read them any more, and the upstream is asked to delete them.

The ledger records what has expired, so a restart loses nothing. Replicas may do this at the same time: expiring a job
twice equals expiring it once. Then the upstream gets delete requests until it confirms; it can't bring a job back.
Each goes out at once or not at all: the id may be another job's soon.

Only attempts count against a deletion, not the time since the job ended: its result may have been kept for days, and
the gateway may have been off for one.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final

import structlog
from sqlalchemy import Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, UpstreamFailed
from gateway.jobs.registry import Registry
from gateway.ledger.expiry import (
    AT_ONCE,
    LAST_WAIT,
    claim_gone,
    expired,
    first_expiry,
    forget_expired,
    purge,
    told,
    waited,
)
from gateway.ledger.jobs import forget, named
from gateway.ledger.news import Question
from gateway.ledger.replica import Replica
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.job_api import delete_request
from gateway.upstream.response_head import ResponseHead

_WITHIN: Final = 10.0  # seconds
_SENT_WITHIN: Final = 2.0  # seconds; the ledger gives the id to another job after five at the earliest
_FIRST_BAD: Final = 300
_GONE: Final = frozenset({404, 410})
_SWEEP_SECONDS: Final = 2.0
MAX_ASKED: Final = 32
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
        self._deleted: list[Row[Any]] = []
        self._is_telling = False
        self._due = Question(replica.ledger.version)

    async def sweep(self) -> None:
        """Expires what is due, a batch at a time and for some seconds at most; called each second.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        until = self._clock() + _SWEEP_SECONDS
        is_more = await self._is_any_due()
        while is_more:
            over = await self._ledger.read(lambda c: expired(c, self._wall()))
            await self._forget(over.readable)
            is_more = len(over.readable) == AT_ONCE
            if over.readable or over.has_gone:
                is_more |= await self._delete_some()
            if self._clock() >= until:
                return

    async def _is_any_due(self) -> bool:
        now = self._wall()
        if not await self._due.is_open(now):
            return False
        first = await self._ledger.read(first_expiry)
        self._due.answered(inf if first is None else first)
        return first is not None and first <= now

    async def purge(self) -> None:
        """Removes records older than jobs.records_kept, a few thousand at a time.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        before = self._wall() - self._state().settings.jobs.records_kept
        for _ in range(_MAX_PURGES):
            if await self._ledger.write(lambda c: purge(c, before)) < AT_ONCE:
                return

    async def _forget(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            self._drop(row)
        if not rows:
            return
        kept = [name for name, shape in self._state().shapes.items() if shape.delete is None]
        for row in await self._ledger.write(lambda c: forget_expired(c, rows, self._wall(), kept)):
            await self._ledger.write(lambda c, row=row: forget(c, named(row), self._wall()))  # type: ignore[misc]

    async def _delete_some(self) -> bool:
        """Asks the upstreams to delete as many forgotten jobs as may be asked at once; returns whether more are due.

        The ledger first has when to ask again, in case no answer comes.
        """
        most = MAX_ASKED - self._asking
        if most <= 0:
            return False  # however many are due, none may be asked about now
        before = self._clock() + _SENT_WITHIN  # from here on: the ledger's answer may take its time
        rows = await self._ledger.write(lambda c: claim_gone(c, most, self._wall()))
        for row in rows:
            self._drop(row)
            self._delete(row, before)
        return len(rows) == most

    def _delete(self, row: Row[Any], before: float) -> None:
        state = self._state()
        shape, upstream = state.shapes.get(row.shape), state.upstreams.get(row.upstream)
        if waited(row) >= LAST_WAIT:
            log.error("the upstream never deleted a job; it is asked no more", upstream=row.upstream)
            return
        if shape is None or upstream is None:  # a later configuration may have them
            return
        request = delete_request(shape, row.path, row.request_id)
        if request is None:
            self._note_deleted(row)
            return
        self._asking += 1

        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            self._asking -= 1
            status = outcome.status if isinstance(outcome, ResponseHead) else 0
            if 0 < status < _FIRST_BAD or status in _GONE:
                self._note_deleted(row)
            else:
                log.warning(
                    "the upstream did not delete a job; it is asked again", upstream=row.upstream, status=status
                )

        self._upstream_client.run(upstream, UpstreamCall(*request, before), DroppedAnswer(), _WITHIN, done)

    def _drop(self, row: Row[Any]) -> None:
        job = self._registry.get((row.upstream, row.request_id))
        if job is not None and job.named == named(row):
            job.end(0)
            self._registry.drop(job)

    def _note_deleted(self, row: Row[Any]) -> None:
        self._deleted.append(row)
        if not self._is_telling:
            self._is_telling = True
            self._background.start(self._tell_ledger())

    async def _tell_ledger(self) -> None:
        """Tells the ledger of all deletions together that come while it is told of others."""
        try:
            while self._deleted:
                rows, self._deleted = self._deleted, []
                with suppress(LedgerUnavailable):  # the next attempt gets a 404: the upstream has deleted them
                    await self._ledger.write(lambda c, rows=rows: told(c, rows, self._wall()))  # type: ignore[misc]
        finally:
            self._is_telling = False


class DroppedAnswer:
    """Discards an answer."""

    def begin(self, head: ResponseHead) -> None:
        """Ignores its head."""

    def take(self, data: bytes) -> None:
        """Drops the next bytes."""

    async def end(self) -> None:
        """Does nothing."""
