"""Facts about ends of jobs that the ledger has not taken yet, in one lane for each account. Pure."""

from typing import Final, NamedTuple

from gateway.jobs.job import Job
from gateway.limits.job_cost import Facts
from gateway.model.jobs import JobRef

MOST: Final = 64
_MAX_PAUSE: Final = 7
_WARN_AFTER: Final = 3
_AT_ONCE: Final = 200
_MAX_PENDING: Final = 20_000
"""Facts beyond this, while the ledger is away, are dropped; the watcher learns them anew for jobs that still run."""


class PendingEnd(NamedTuple):
    """Facts about one job's end."""

    job: Job
    facts: Facts


class Lane:
    """What is pending of one account's jobs, the next one first. `is_running`: somebody writes it.

    `pause` is how many turns it waits, after so many `failures` in a row. A failure counts only while the
    ledger served all others (`is_alone`).
    """

    __slots__ = ("facts", "failures", "is_alone", "is_running", "pause")

    def __init__(self) -> None:
        self.facts: dict[JobRef, PendingEnd] = {}
        self.failures = 0
        self.pause = 0
        self.is_alone = False
        self.is_running = False

    def __repr__(self) -> str:
        return f"<Lane pending={len(self.facts)} failures={self.failures} pause={self.pause}>"

    def batch(self) -> list[PendingEnd]:
        """What to write next, one fact of each reservation; fewer after failures: one job may be the cause."""
        most, some = max(1, MOST >> 2 * self.failures), dict[str, PendingEnd]()
        for end in self.facts.values():
            some.setdefault(end.job.ref.reservation, end)
            if len(some) >= most:
                break
        return list(some.values())

    def requeue(self, batch: list[PendingEnd]) -> bool:
        """Puts a batch after all others, and waits longer each time: 0, 1, 3 and 7 turns.

        Returns whether that is worth a warning.
        """
        if self.is_alone:
            self.failures += 1
            self.pause = min(2 ** (self.failures - 1) - 1, _MAX_PAUSE)
        for end in batch:
            ref = end.job.ref
            if ref in self.facts:
                self.facts[ref] = self.facts.pop(ref)
        return self.is_alone and self.failures == _WARN_AFTER


class PendingEnds:
    """The lanes of all accounts; those without facts are dropped."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, job: Job) -> PendingEnd | None:
        """What is pending of a job."""
        lane = self._lanes.get(job.account)
        return None if lane is None else lane.facts.get(job.ref)

    def add(self, job: Job, facts: Facts) -> Lane | None:
        """Adds facts, if they are new; returns their lane."""
        before = self.of(job)
        if before is None and (facts.known in job.known or self._count >= _MAX_PENDING):
            return None
        lane = self._lanes.setdefault(job.account, Lane())
        self._count += before is None
        lane.facts[job.ref] = PendingEnd(job, facts if before is None else before.facts.plus(facts))
        return lane

    def drop(self, end: PendingEnd) -> None:
        """Removes facts that were written, unless more were learnt meanwhile."""
        lane = self._lanes.get(end.job.account)
        if lane is not None and lane.facts.get(end.job.ref) is end:
            del lane.facts[end.job.ref]
            self._count -= 1
            self._tidy(end.job.account, lane)

    def finish(self, account: str, lane: Lane) -> None:
        """Ends the writing of a lane: another one is next."""
        lane.is_running = lane.is_alone = False
        if self._lanes.get(account) is lane:
            self._lanes[account] = self._lanes.pop(account)
            self._tidy(account, lane)

    def next_turn(self, *, is_well: bool) -> list[tuple[str, Lane]]:
        """The lanes to write now; called each second. `is_well`: the ledger is there for all others."""
        due = [(account, lane) for account, lane in self._lanes.items() if not (lane.is_running or lane.pause)]
        for lane in self._lanes.values():
            lane.is_alone = is_well and not lane.pause
            lane.pause = max(0, lane.pause - 1)
        return due[:_AT_ONCE]

    def _tidy(self, account: str, lane: Lane) -> None:
        if not lane.facts and not lane.is_running:
            del self._lanes[account]
