"""Which replica follows which jobs: heartbeats, what others took, the jobs of dead ones, those lost sight of."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

import structlog
from sqlalchemy import Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable
from gateway.jobs.completion import Completion
from gateway.jobs.registry import Registry
from gateway.jobs.watcher import Watcher
from gateway.ledger.engine import OwnTurn
from gateway.ledger.jobs import job_ref
from gateway.ledger.replica import Replica
from gateway.ledger.unfollowed import AT_ONCE, running
from gateway.ledger.watchers import LIVES_FOR, beat, followed_by, leave, take_over
from gateway.model.jobs import JobRef

_GIVEN_UP_LATER: Final = 300.0  # seconds that a replica has to give up the jobs that it follows
_PORTION: Final = 500  # jobs looked at in one iteration of the loop
log = structlog.get_logger()


class Failover:
    """Lets the watcher follow what the ledger assigns to this process; `state` returns the State in force."""

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        completion: Completion,
        watcher: Watcher,
        state: Callable[[], State],
    ) -> None:
        self._me = replica.name
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._registry = registry
        self._completion = completion
        self._watcher = watcher
        self._state = state

    def __repr__(self) -> str:
        return f"<Failover of {self._me}>"

    async def beat(self) -> None:
        """Sends this process's heartbeat; called every few seconds.

        Raises:
            LedgerUnavailable: it may not have been sent.
        """
        now = self._wall()
        await self._ledger.write(lambda c: beat(c, self._me, now, now + LIVES_FOR), in_turn_of=OwnTurn.HEARTBEAT)

    async def hear(self) -> None:
        """Lets go of jobs that other replicas took or ended; called each second.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        self._watcher.apply_changes(await self._registry.read_changes())

    async def take_over(self) -> None:
        """Takes over jobs that no one follows; called every few seconds.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        now = self._wall()
        while rows := await self._ledger.write(lambda c: take_over(c, self._me, now)):
            for row in rows:
                self._begin_row(row)
            log.info("jobs taken over", jobs=len(rows))

    async def recall(self) -> None:
        """Follows jobs that the ledger assigns to this process but that it does not follow; called once a minute.

        Causes: the ledger's answer about a job's beginning or deletion was lost, whether it was written or not; or
        the job was let go while the configuration lacked its upstream's shape or had watching off. As long as it does
        none of them is followed, and those that are too old are given up.

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        settings, left = self._state().settings.jobs, list[JobRef]()
        over = self._wall() - settings.give_up_after - _GIVEN_UP_LATER
        before = None if settings.watch else over
        for index, mine in enumerate(await self._ledger.read(lambda c: followed_by(c, self._me, before))):
            if index % _PORTION == 0:
                await asyncio.sleep(0)  # there may be ten thousand
            job = self._registry.get(mine.key)
            if job is None or job.ref != mine or not (job.is_gone or job.is_followed):
                left.append(mine)
            elif job.is_gone:
                self._completion.forget(job)
        old = list(chain.from_iterable([await self._recall_some(some, over) for some in _portions(left)]))
        for some in _portions(old):
            if lost := [one for one in some if not self._has_hope(one)]:  # portions take a while
                await self._completion.give_up(lost)

    async def _recall_some(self, left: Sequence[JobRef], over: float) -> list[JobRef]:
        """Follows those that can be followed; returns the others that began before a moment."""
        rows = [row for row in await self._ledger.read(lambda c: running(c, left)) if row.watcher == self._me]
        if self._state().settings.jobs.watch:
            for row in rows:
                self._begin_row(row)
        return [job_ref(row) for row in rows if row.created_at < over and not self._has_hope(job_ref(row))]

    def _has_hope(self, mine: JobRef) -> bool:
        """Whether a job is followed here, or its end is known and only to be told to the ledger."""
        job = self._registry.get(mine.key)
        return job is not None and job.ref == mine and (job.is_followed or job.has_known_end)

    async def leave(self) -> None:
        """Hands the jobs of this process over to others."""
        try:
            await self._ledger.write(lambda c: leave(c, self._me))
        except LedgerUnavailable:
            return  # others take them over once this process's heartbeat expires

    def _begin_row(self, row: Row[Any]) -> None:
        job = self._registry.apply_row(row)
        if job is not None:
            self._watcher.begin(job)


def _portions(jobs: Sequence[JobRef]) -> list[Sequence[JobRef]]:
    return [jobs[start : start + AT_ONCE] for start in range(0, len(jobs), AT_ONCE)]
