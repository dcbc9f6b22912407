"""When each job is asked about next: one date for each, the soonest first.

A heap can't lose what is in its middle, so a date that was replaced stays there, outdated, until it comes. Long polls
replace dates hundreds of times a second: outdated dates are not counted, and thrown away once they are the most.
"""

import heapq
import math
from itertools import count
from typing import Final

from gateway.jobs.job import Job
from gateway.jobs.owner_counts import OwnerCounts

_SPARE: Final = 256


class DueDates:
    """The dates. `job.ticket` names the one that counts."""

    __slots__ = ("_current", "_heap", "_owners", "_tickets")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._current: dict[Job, int] = {}
        self._owners = OwnerCounts()
        self._tickets = count()

    def __len__(self) -> int:
        """How many jobs have a date."""
        return len(self._current)

    def shared_by(self, job: Job) -> int:
        """How many jobs share the requests, as this one sees it (owner_counts.py), with a date or without."""
        return self._owners.shared_by(job.owner, others=job not in self._current)

    @property
    def next_due(self) -> float:
        """The soonest date, perhaps an outdated one; infinite if there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def put(self, job: Job, due: float) -> bool:
        """Sets a job's date, in place of the one that it has; returns whether it is the soonest of all."""
        if job not in self._current:
            self._owners.add(job.owner)
        self._current[job] = job.ticket = next(self._tickets)
        heapq.heappush(self._heap, (due, job.ticket, job))
        if len(self._heap) > 2 * len(self._current) + _SPARE:
            self._heap = [one for one in self._heap if self._current.get(one[2]) == one[1]]
            heapq.heapify(self._heap)
        return self._heap[0][1] == job.ticket

    def pop(self) -> tuple[float, int, Job]:
        """Takes out the soonest date, with its ticket: it may be outdated. There has to be one."""
        due, ticket, job = heapq.heappop(self._heap)
        if self._current.get(job) == ticket:
            del self._current[job]
            self._owners.drop(job.owner)
        return due, ticket, job
