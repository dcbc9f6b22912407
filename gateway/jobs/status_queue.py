"""The status requests that wait for a slot of their upstream: one that is silent delays no other."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.config.state import State
from gateway.jobs.job import Job
from gateway.jobs.status_slots import StatusSlots, Urgency


class StatusRequest(NamedTuple):
    """What waits for a slot. `start` sends the request; False: it was not needed any more.

    Once its answer has come, or failed, whoever sent it calls StatusQueue.give_back and then .go_on.
    """

    due: float
    start: Callable[[], bool]


class StatusQueue:
    """Starts what waits as slots come free; `state` returns the State in force.

    `asked` is the number of requests sent so far.
    """

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._slots: dict[str, StatusSlots[StatusRequest]] = {}
        self._is_closed = False
        self.asked = 0

    def __repr__(self) -> str:
        closed = " closed" if self._is_closed else ""
        return f"<StatusQueue{closed} asking={self.asking} asked={self.asked}>"

    @property
    def asking(self) -> int:
        """How many requests have no answer yet."""
        return sum(slots.taken for slots in self._slots.values())

    @property
    def first_due(self) -> list[float]:
        """When the first of each queue was due."""
        return [request.due for slots in self._slots.values() for request in slots.first()]

    def put(self, job: Job, urgency: Urgency, request: StatusRequest) -> None:
        """Queues a request, and starts it at once if it may have a slot."""
        self._slots.setdefault(job.upstream, StatusSlots()).put(job.owner, urgency, request)
        self.go_on(job)

    def give_back(self, job: Job) -> None:
        """Frees the slot that a request about a job had."""
        self._slots[job.upstream].give_back(job.owner)

    def go_on(self, job: Job) -> None:
        """Starts the next requests to a job's upstream."""
        slots, most = self._slots[job.upstream], self._state().settings.jobs.most_status_requests
        while not self._is_closed and (found := slots.take(most)) is not None:
            owner, request = found
            if request.start():
                self.asked += 1
            else:
                slots.give_back(owner, unused=True)

    def close(self) -> None:
        """Starts no more requests."""
        self._is_closed = True
