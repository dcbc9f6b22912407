"""Expired jobs: no one may read them any more, and the upstream is asked to delete them.

The ledger records what has expired, so a restart loses nothing. Replicas may do this at the same time: expiring a job
twice equals expiring it once. Then the upstream gets delete requests until it confirms; it can't bring a job back.
Each goes out at once or not at all: the id may be another job's soon.

Only attempts count against a deletion, not the time since the job ended: its result may have been kept for days, and
the gateway may have been off for one. Of attempts that are late some count as made: an upstream that fails may have
more to delete than it can be asked about.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final

import structlog
from sqlalchemy import Row

from gateway.aio.in_turn import run_in_later_turn
from gateway.aio.iteration import Iteration
from gateway.config.state import State
from gateway.errors import LedgerUnavailable, UpstreamFailed
from gateway.jobs.deletion_slots import DeletionSlots
from gateway.jobs.minute_sums import MinuteSums
from gateway.jobs.reading import GONE
from gateway.jobs.registry import Registry
from gateway.ledger.expiry import (
    AT_ONCE,
    LAST_WAIT,
    claim_gone,
    due_gone,
    expired,
    first_expiry,
    forget_expired,
    mark_deleted,
    purge,
    purge_ended,
    purge_refunded,
    stray_gone,
    waited,
)
from gateway.ledger.jobs import DELETED_WITHIN, forget, job_ref
from gateway.ledger.news import Question
from gateway.ledger.purging import purge_all
from gateway.ledger.replica import Replica
from gateway.ledger.schema import Stage
from gateway.model.statuses import SUCCESS
from gateway.units import DAY
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.job_api import delete_request
from gateway.upstream.response_head import ResponseHead

_WITHIN: Final = 10.0  # seconds
_SWEEP_SECONDS: Final = 2.0
_STRAYS_EVERY: Final = 60.0  # seconds
MAX_ASKED: Final = 32
"""How many deletions one upstream is asked for at once."""

_AT_A_TIME: Final = 4  # deletions that begin in one iteration of the loop: each is a connection
_REFUNDED_KEPT: Final = float(DAY)  # a submit of which no job came may still be told of late
_ENDED: Final = (Stage.SETTLED, Stage.CHARGED, Stage.REFUNDED)
log = structlog.get_logger()


class Retention:
    """Sweeps expired jobs. `state` returns the State in force; `clock` and `iteration` are the loop's."""

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        upstream_client: UpstreamClient,
        state: Callable[[], State],
        clock: Callable[[], float],
        iteration: Iteration,
    ) -> None:
        self._ledger = replica.ledger
        self._registry = registry
        self._upstream_client = upstream_client
        self._state = state
        self._clock = clock
        self._iteration = iteration
        self._wall = replica.wall
        self._background = replica.background
        self._slots = DeletionSlots()
        self._failures = MinuteSums()
        self._given_up = MinuteSums()
        self._strays_at = self._clock()
        self._deleted: list[Row[Any]] = []
        self._is_marking = False
        self._due = Question(replica.ledger.version)

    async def sweep(self) -> None:
        """Expires what is due, a batch at a time and for some seconds at most; called each second.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        self._log_failures()
        self._slots.begin_turn()
        until = self._clock() + _SWEEP_SECONDS
        is_more = await self._is_any_due()
        if is_more:
            await self._claim_strays()
        while is_more:
            over = await self._ledger.read(lambda c: expired(c, self._wall()))
            await self._forget(over)
            is_more = await self._delete_some() or len(over) == AT_ONCE
            if self._clock() >= until:
                return

    async def _is_any_due(self) -> bool:
        now = self._wall()
        if not await self._due.is_open(now):
            return False
        first = await self._ledger.read(first_expiry)
        self._due.mark_answered(inf if first is None else first)
        return first is not None and first <= now

    async def purge(self) -> None:
        """Removes records older than jobs.records_kept, some thousands at a time; jobs before what has no job.

        What was given back goes last, so that a container that refuses much keeps nothing else from being removed.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        now = self._wall()
        before = now - self._state().settings.jobs.records_kept
        if await purge_all(self._ledger, lambda c: purge(c, before)):
            for stage in _ENDED:
                await purge_all(self._ledger, partial(purge_ended, stage=stage, before=before))
        await purge_all(self._ledger, lambda c: purge_refunded(c, now - _REFUNDED_KEPT))

    async def _forget(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            self._drop(row)
        if not rows:
            return
        kept = [name for name, shape in self._state().shapes.items() if shape.delete is None]
        for row in await self._ledger.write(lambda c: forget_expired(c, rows, self._wall(), kept)):
            await self._ledger.write(lambda c, row=row: forget(c, job_ref(row), self._wall()))  # type: ignore[misc]

    async def _delete_some(self) -> bool:
        """Asks upstreams to delete as many forgotten jobs as they may be asked at once; returns whether more go now.

        The ledger first has when to ask again, in case no answer comes.
        """
        free = self._slots.free(self._state().upstreams, MAX_ASKED)
        due = await self._ledger.read(lambda c: due_gone(c, free, self._wall()))
        rows = await self._claim(self._slots.choose(due, free))
        return self._slots.may_go_on(Counter(row.upstream for row in rows), free)

    async def _claim_strays(self) -> None:
        """Counts an attempt of deletions at upstreams that the configuration lacks, now and then."""
        if self._clock() >= self._strays_at:
            self._strays_at = self._clock() + _STRAYS_EVERY
            known = list(self._state().upstreams)
            await self._claim(await self._ledger.read(lambda c: stray_gone(c, known, self._wall())))

    async def _claim(self, due: Sequence[Row[Any]]) -> list[Row[Any]]:
        if not due:
            return []
        before = self._clock() + DELETED_WITHIN  # from here on: the ledger's answer may take its time
        rows = await self._ledger.write(lambda c: claim_gone(c, due, self._wall()))
        for number in range(0, len(rows), _AT_A_TIME):
            begin = partial(self._begin, rows[number : number + _AT_A_TIME], before)
            await run_in_later_turn(self._iteration, begin, is_small=True)
        return rows

    def _begin(self, rows: Sequence[Row[Any]], before: float) -> None:
        for row in rows:
            self._drop(row)
            self._delete(row, before)

    def _delete(self, row: Row[Any], before: float) -> None:
        state = self._state()
        shape, upstream = state.shapes.get(row.shape), state.upstreams.get(row.upstream)
        if waited(row) >= LAST_WAIT:
            self._given_up.add(row.upstream)
            self._log_failures()
        elif shape is None or upstream is None:  # a later configuration may have them
            self._slots.rest(row.upstream)
        elif (request := delete_request(shape, row.path, row.request_id)) is None:
            self._note_deleted(row)
        elif self._clock() >= before:  # it waited for the ledger or for its turn, which is no fault of the upstream's
            self._slots.rest(row.upstream)
        else:
            self._slots.take(row.upstream)
            done = partial(self._done, row)
            self._upstream_client.run(upstream, UpstreamCall(*request, before), DroppedAnswer(), _WITHIN, done)

    def _done(self, row: Row[Any], outcome: ResponseHead | UpstreamFailed) -> None:
        status = outcome.status if isinstance(outcome, ResponseHead) else 0
        is_deleted = status in SUCCESS or status in GONE
        self._slots.give_back(row.upstream, is_deleted=is_deleted)
        if is_deleted:
            self._note_deleted(row)
        else:
            self._failures.add(row.upstream, status)
            self._log_failures()

    def _log_failures(self) -> None:
        now = self._clock()
        for upstream, number, status in self._failures.due(now):
            known = {"upstream": upstream, "status": status, "count": number}
            log.warning("the upstream did not delete a job; it is asked again", **known)
        for upstream, number, _ in self._given_up.due(now):
            log.error("the upstream never deleted a job; it is asked no more", upstream=upstream, count=number)

    def _drop(self, row: Row[Any]) -> None:
        job = self._registry.get((row.upstream, row.request_id))
        if job is not None and job.ref == job_ref(row):
            job.end(0)
            self._registry.drop(job)

    def _note_deleted(self, row: Row[Any]) -> None:
        self._deleted.append(row)
        if not self._is_marking:
            self._is_marking = True
            self._background.start(self._mark_all_deleted())

    async def _mark_all_deleted(self) -> None:
        """Marks all deletions together that come while others are being marked."""
        try:
            while self._deleted:
                rows, self._deleted = self._deleted, []
                with suppress(LedgerUnavailable):  # the next attempt gets a 404: the upstream has deleted them
                    await self._ledger.write(lambda c, rows=rows: mark_deleted(c, rows, self._wall()))  # type: ignore[misc]
        finally:
            self._is_marking = False


class DroppedAnswer:
    """Discards an answer."""

    def begin(self, head: ResponseHead) -> None:
        """Ignores its head."""

    def take(self, data: bytes) -> None:
        """Drops the next bytes."""

    async def end(self) -> None:
        """Does nothing."""
