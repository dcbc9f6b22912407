"""What a job's end causes, once: the ledger settles its pages, its webhook becomes due, its long polls go on."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from gateway.admission.lease import ledger_away
from gateway.config.state import State
from gateway.errors import LedgerUnavailable
from gateway.jobs.end_writer import EndWriter, Terms
from gateway.jobs.job import Job, job_not_found
from gateway.jobs.registry import Registry
from gateway.ledger.closing import Settled
from gateway.ledger.jobs import Deleted, Recorded, delete_for_owner, record_facts
from gateway.ledger.replica import Replica
from gateway.ledger.schema import JobState
from gateway.ledger.unfollowed import give_up
from gateway.limits.job_cost import Facts, FailedCosts, Known, stricter
from gateway.model.jobs import JobRef

log = structlog.get_logger()


class Effects(NamedTuple):
    """Called with each settlement, and with a job's end once the ledger has recorded it."""

    settled: Callable[[Settled], None]
    ended: Callable[[Recorded], None]


class Completion:
    """Takes facts about the ends of jobs to the ledger. `state` returns the State in force."""

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        state: Callable[[], State],
        effects: Effects,
    ) -> None:
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._background = replica.background
        self._effects = effects
        self._registry = registry
        self._state = state
        terms = Terms(self.failed_costs, lambda: state().settings.jobs.result_ttl)
        self._end_writer = EndWriter(replica, terms, self._apply_recorded)

    def __repr__(self) -> str:
        return f"<Completion pending={len(self._end_writer)}>"

    def mark_failed(self, job: Job) -> None:
        """Called when a submit's answer said that its job failed."""
        self.add_facts(job, Facts(Known.FAILED))

    def mark_given_up(self, job: Job) -> None:
        """Called when a job that is followed here has run for too long."""
        _log_given_up(job.upstream)
        self.add_facts(job, Facts(Known.GIVEN_UP))

    def mark_taken(self, job: Job) -> None:
        """Called when something that may be part of a job's result went to its owner."""
        if Known.COMPLETE not in job.known:  # else it costs its own pages in any case
            self.add_facts(job, Facts(Known.TAKEN))

    def add_facts(self, job: Job, facts: Facts) -> None:
        """Adds facts about a job's end, and writes them to the ledger in the background, with retries."""
        self._end_writer.add(job, facts)

    def retry_pending(self) -> None:
        """Retries writes that the ledger has not taken; called each second while it answers."""
        self._end_writer.retry()

    def failed_costs(self, job: Job) -> FailedCosts:
        """The stricter of the shape that the job began with and the one in force."""
        now = self._state().shapes.get(job.shape.name, job.shape)
        return stricter(job.shape.failed_costs, now.failed_costs)

    def forget(self, job: Job) -> None:
        """Makes a job unreadable from now on."""
        job.end(0)  # it stays cached: an older read of the ledger would revive it
        self._background.start(self._forget(job))

    async def forget_now(self, job: Job) -> None:
        """Makes a job unreadable before the upstream gets the delete; a running job is charged as reserved.

        Otherwise an owner could get pages back by deleting a job whose end the ledger has not recorded: the upstream
        would not know it any more, which looks like an upstream that was restarted.

        Raises:
            Refused: ledger_unavailable, or job_not_found if another request deleted it first; then nothing may be
                deleted upstream: its id may be another job's.
        """
        try:
            recorded, deleted = await self._forget_in_ledger(job)
        except LedgerUnavailable:
            raise ledger_away() from None
        job.end(0)
        self._report_settled(recorded, deleted.settled)
        if not deleted.was_readable:
            raise job_not_found()

    async def give_up(self, jobs: Collection[JobRef]) -> None:
        """Ends jobs in the ledger that have run for too long, and that nobody follows.

        Raises:
            LedgerUnavailable: they may not have ended.
        """
        ttl = self._state().settings.jobs.result_ttl
        for ref, recorded in await self._ledger.write(lambda c: give_up(c, jobs, self._wall(), ttl)):
            _log_given_up(ref.upstream)
            job = self._registry.get(ref.key)
            if job is not None and job.ref == ref:
                self._apply_recorded(job, recorded)
            else:
                self._report(recorded)

    def _apply_recorded(self, job: Job, recorded: Recorded | None) -> None:
        """Takes over a job's state in the ledger, whatever caused it."""
        if recorded is None:  # ended, but not in the ledger: it has no owner
            if job.is_running and job.has_known_end:
                job.end(0)
                self._registry.drop(job)
            return
        job.add_known(recorded.known)
        if recorded.state is JobState.GONE:
            job.end(0)
        elif job.is_gone:  # the ledger was away when it was forgotten
            self._background.start(self._forget(job))
        elif recorded.state is not JobState.RUNNING and not job.is_gone and recorded.expires_at is not None:
            job.end(recorded.expires_at)
        if recorded.settled is not None and not recorded.is_end:
            log.warning("what a job was charged is corrected: it told of its end at last", upstream=job.upstream)
        self._report(recorded)

    def _report(self, recorded: Recorded) -> None:
        self._report_settled(recorded.settled)
        if recorded.is_end:
            self._effects.ended(recorded)

    def _report_settled(self, *settlements: Settled | None) -> None:
        for settled in settlements:
            if settled is not None:
                self._effects.settled(settled)

    async def _forget(self, job: Job) -> None:
        try:
            recorded, deleted = await self._forget_in_ledger(job)
        except LedgerUnavailable:
            log.warning("a job could not be forgotten yet; it will be when its time is over")
            return
        self._report_settled(recorded, deleted.settled)

    async def _forget_in_ledger(self, job: Job) -> tuple[Settled | None, Deleted]:
        """Forgets a job in the ledger, after its pending facts; returns what came of both."""
        end = self._end_writer.pending(job)
        new_facts = None if end is None else self._end_writer.new_facts(end)

        def work(connection: Connection) -> tuple[Settled | None, Deleted]:
            now, ttl = self._wall(), self._state().settings.jobs.result_ttl
            recorded = None if new_facts is None else record_facts(connection, *new_facts, now, ttl)
            forgotten = delete_for_owner(connection, job.ref, now)
            return None if recorded is None else recorded.settled, forgotten

        came_of = await self._ledger.write(work, in_turn_of=job.owner)
        if end is not None:
            self._end_writer.drop(end)
        return came_of


def _log_given_up(upstream: str) -> None:
    log.warning("a job has run for too long and was given up", upstream=upstream)
