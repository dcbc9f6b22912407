"""The status requests that wait for a slot of their upstream: one that is silent delays no other."""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from gateway.aio.iteration import Iteration
from gateway.config.state import State
from gateway.errors import UpstreamFailed
from gateway.jobs.findings import Findings
from gateway.jobs.job import Job
from gateway.jobs.status_slots import StatusSlots, Urgency
from gateway.jobs.status_watch import StatusWatch
from gateway.upstream.client import UpstreamCall, UpstreamClient
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

TakeOutcome = Callable[[StatusWatch, ResponseHead | UpstreamFailed], None]
"""Takes the examined answer, and its head or why there is none."""

AT_ONCE: Final = 64
"""How many of an upstream's requests are taken up in one piece: thousands that wait may not be needed any more."""


class StatusRequest(NamedTuple):
    """What waits for a slot. `start` sends it by StatusQueue.send; False: it was not needed any more."""

    due: float
    start: Callable[[], bool]


class Patience(NamedTuple):
    """How many seconds a request may go without a byte of its answer, and how many an answer may go on coming."""

    silence: float
    longest: float


class StatusQueue:
    """Starts what waits as slots come free; `state` returns the State in force.

    `asked` is the number of requests sent so far.
    """

    def __init__(
        self, findings: Findings, upstream_client: UpstreamClient, state: Callable[[], State], iteration: Iteration
    ) -> None:
        self._findings = findings
        self._upstream_client = upstream_client
        self._state = state
        self._slots: dict[str, StatusSlots[StatusRequest]] = {}
        self._iteration = iteration
        self._later: set[str] = set()  # upstreams of which more is taken up in a later turn
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
        slots = self._slots.get(job.upstream)
        if slots is None:
            slots = self._slots[job.upstream] = StatusSlots()
        slots.put(job.owner, urgency, request)
        self._go_on(job.upstream)

    def send(self, job: Job, upstream: UpstreamTarget, patience: Patience, take: TakeOutcome) -> None:
        """Sends a request that has its slot; `take` gets what came of it, when the slot is free again."""
        watch, silence = self._findings.watch(job), min(upstream.read_timeout, patience.silence)

        def done(outcome: ResponseHead | UpstreamFailed) -> None:
            self._slots[job.upstream].give_back(job.owner)
            try:
                take(watch, outcome)
            finally:
                self._go_on(job.upstream)

        call = UpstreamCall("GET", job.target)
        self._upstream_client.run(upstream, call, watch, silence, done, longest=patience.longest)

    def close(self) -> None:
        """Starts no more requests."""
        self._is_closed = True

    def _go_on(self, upstream: str) -> None:
        """Starts the next requests to an upstream, unless a later turn does."""
        if upstream not in self._later and self._start_some(upstream):
            self._later.add(upstream)
            self._iteration.call_in_turn(partial(self._go_on_later, upstream), is_small=True)

    def _go_on_later(self, upstream: str) -> None:
        self._later.discard(upstream)
        self._go_on(upstream)

    def _start_some(self, upstream: str) -> bool:
        """Starts what may have a slot of AT_ONCE requests; returns whether others may be left."""
        slots, most = self._slots[upstream], self._state().settings.jobs.most_status_requests
        for _ in range(AT_ONCE):
            if self._is_closed or (found := slots.take(most)) is None:
                return False
            owner, request = found
            if request.start():
                self.asked += 1
            else:
                slots.give_back(owner, unused=True)
        return True
