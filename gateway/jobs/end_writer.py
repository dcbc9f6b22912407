"""Writes to the ledger how jobs ended: for each account one task, which writes many ends at a time.

A ledger may be far away, and all jobs of an account change one row of it. Written one by one and at once, ends would
wait for each other's lock, and the account's submits for them all.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from gateway.errors import LedgerUnavailable, whereabouts
from gateway.jobs.job import Job
from gateway.jobs.pending_ends import Lane, PendingEnd, PendingEnds
from gateway.ledger.jobs import NewFacts, Recorded, record_locked, record_unlocked
from gateway.ledger.replica import Replica
from gateway.ledger.steps import TRIES
from gateway.limits.job_cost import Facts, FailedCosts

log = structlog.get_logger()


class Terms(NamedTuple):
    """What the configuration in force says: what a failed job costs, and how long a result lives, in seconds."""

    failed_costs: Callable[[Job], FailedCosts]
    ttl: Callable[[], float]


class EndWriter:
    """Facts are pending from `add` until the ledger has taken them; `on_recorded` gets what came of each."""

    def __init__(self, replica: Replica, terms: Terms, on_recorded: Callable[[Job, Recorded | None], None]) -> None:
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._background = replica.background
        self._terms = terms
        self._on_recorded = on_recorded
        self._pending = PendingEnds()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, job: Job, facts: Facts) -> None:
        """Adds facts about a job's end, and begins to write them, if the account's lane does not pause."""
        lane = self._pending.add(job, facts)
        if lane is None:  # they are known already, or there is no room for them
            job.see(facts.known)
            return
        job.add_known(facts.known)
        if not lane.is_running and not lane.pause:
            self._begin(job.account, lane)

    def retry(self) -> None:
        """Writes again what the ledger has not taken; called each second while it answers."""
        for account, lane in self._pending.next_turn(is_well=self._ledger.problem is None):
            self._begin(account, lane)

    def pending(self, job: Job) -> PendingEnd | None:
        """What is pending of a job, for a caller who writes it himself, and then drops it."""
        return self._pending.of(job)

    def drop(self, end: PendingEnd) -> None:
        """Removes facts that were written, unless more were learnt meanwhile."""
        self._pending.drop(end)

    def new_facts(self, end: PendingEnd) -> NewFacts:
        """What the ledger is to record."""
        return NewFacts(end.job.ref, end.facts, self._terms.failed_costs(end.job))

    def _begin(self, account: str, lane: Lane) -> None:
        lane.is_running = True
        self._background.start(self._write_lane(account, lane))

    async def _write_lane(self, account: str, lane: Lane) -> None:
        """Writes a lane to its end, also what is learnt meanwhile; what the ledger does not take stays pending."""
        batch, why = list[PendingEnd](), ""
        try:
            while batch := lane.batch():
                self._apply(batch, await self._write_batch(batch))
                lane.failures = 0
        except LedgerUnavailable as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 -- a fault of ours: its job, written alone at last, delays no other
            why, lane.is_alone = whereabouts(error), True
        finally:
            if batch and lane.requeue(batch):
                log.warning("an account's jobs can't be settled yet", account=account, why=why)
            self._pending.finish(account, lane)

    async def _write_batch(self, batch: list[PendingEnd]) -> list[Recorded | None]:
        """Without a lock at first: one that others of the account wait for is held for no round trip."""
        asked, now, ttl = [self.new_facts(end) for end in batch], self._wall(), self._terms.ttl()
        owner = batch[0].job.owner
        for _ in range(TRIES):
            found = await self._ledger.guarded(
                partial(record_unlocked, asked=asked, now=now, ttl=ttl), in_turn_of=owner
            )
            if found is not None:
                return found
        return await self._ledger.write(partial(record_locked, asked=asked, now=now, ttl=ttl), in_turn_of=owner)

    def _apply(self, batch: list[PendingEnd], recorded: list[Recorded | None]) -> None:
        for end, found in zip(batch, recorded, strict=True):
            self._pending.drop(end)
            self._on_recorded(end.job, found)
