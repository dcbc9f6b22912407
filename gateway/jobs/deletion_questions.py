"""Asks about a job before it is deleted: afterwards nobody can learn what it has to cost."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.config.state import State
from gateway.errors import Refused
from gateway.jobs.job import Job
from gateway.jobs.status_queue import Patience, StatusQueue, StatusRequest
from gateway.jobs.status_slots import Urgency
from gateway.model.reasons import RETRY_SOON, Denial, Reason

WITHIN: Final = 5.0
"""Seconds for a slot, and without a byte; a client waits before its job is deleted."""
_LONGEST: Final = 60.0  # seconds for an answer that goes on coming


class DeletionQuestions:
    """All who ask about one job at the same time share the question; all questions are the first to get a slot.

    `state` returns the State in force.
    """

    def __init__(
        self,
        queue: StatusQueue,
        state: Callable[[], State],
        clock: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._state = state
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._questions: dict[Job, asyncio.Future[bool]] = {}

    def __repr__(self) -> str:
        return f"<DeletionQuestions open={len(self._questions)}>"

    async def ask(self, job: Job) -> None:
        """Asks the upstream about a job and waits for the answer; without an answer in time it just returns.

        Raises:
            Refused: no_room, there was no slot for seconds.
        """
        if job.upstream not in self._state().upstreams:
            return
        waiting = self._questions.get(job) or self._put(job)
        if not await asyncio.shield(waiting):
            detail = "The job was not deleted: too many are asked about at the moment (jobs.most_status_requests)."
            raise Refused(Denial(Reason.NO_ROOM, detail, retry_after=RETRY_SOON, title="Too many status requests"))

    def _put(self, job: Job) -> "asyncio.Future[bool]":
        """Queues a question; its future gets whether there was a slot for it."""
        waiting = self._questions[job] = self._loop.create_future()
        timer = self._loop.call_later(WITHIN, self._close, job, waiting, False)
        start = partial(self._start, job, waiting, timer)
        self._queue.put(job, Urgency.DELETION, StatusRequest(self._clock(), start))
        return waiting

    def _close(self, job: Job, waiting: "asyncio.Future[bool]", had_slot: bool) -> None:
        del self._questions[job]
        waiting.set_result(had_slot)

    def _start(self, job: Job, waiting: "asyncio.Future[bool]", timer: asyncio.TimerHandle) -> bool:
        if waiting.done():
            return False
        timer.cancel()
        upstream = self._state().upstreams.get(job.upstream)
        if upstream is None or not job.is_running:
            self._close(job, waiting, had_slot=True)
            return False

        def take(*_: object) -> None:
            self._close(job, waiting, had_slot=True)  # what the answer said is noted already

        self._queue.send(job, upstream, Patience(WITHIN, _LONGEST), take)
        return True
