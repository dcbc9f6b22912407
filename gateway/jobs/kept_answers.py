"""Answers that said that a job runs, kept with their jobs until they are too old for any poll to share. Pure."""

from collections import deque
from collections.abc import Callable

from gateway.jobs.job import Job
from gateway.jobs.status_answer import RunningAnswer


class KeptAnswers:
    """Knows which jobs have one. Times are seconds of one clock, the loop's.

    `age` says how old an answer may be that a poll shares; with 0 none is shared, and so none is kept.
    """

    def __init__(self, age: Callable[[], float]) -> None:
        self._age = age
        self._kept: deque[tuple[float, Job]] = deque()  # nearly oldest first; also those replaced since

    def __repr__(self) -> str:
        return f"<KeptAnswers kept={len(self._kept)}>"

    def keep(self, job: Job, running: RunningAnswer) -> None:
        """Keeps an answer with its job, if any poll may share it."""
        if self._age():
            job.keep(running)
            if job.running_answer is running:
                self._kept.append((running.at, job))

    def drop_old(self, now: float) -> None:
        """Lets go of those that no poll may share any more: a job may run for hours after its last poll."""
        newest = now - self._age()
        while self._kept and self._kept[0][0] <= newest:
            at, job = self._kept.popleft()
            if job.running_answer is not None and job.running_answer.at <= at:
                job.running_answer = None
