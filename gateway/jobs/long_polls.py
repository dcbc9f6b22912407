"""Long polls: each waits until its job ends; one status request serves all that wait.

A waiting client costs its own coroutine, which it has anyway, a signal and a timer. A client that leaves is dropped
at once; a drain wakes all.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.aio.waiters import call_each
from gateway.jobs.job import Job, job_not_found
from gateway.jobs.watcher import Watcher


class LongPolls:
    """Keeps long polls waiting until their job ends. Not thread-safe: belongs to one event loop."""

    def __init__(self, watcher: Watcher, iteration: Iteration) -> None:
        self._watcher = watcher
        self._iteration = iteration
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Signal, Callable[[], None]] = {}
        self.is_draining = False

    def __repr__(self) -> str:
        draining = " draining" if self.is_draining else ""
        return f"<LongPolls{draining} waiting={len(self._waiting)}>"

    def __len__(self) -> int:
        return len(self._waiting)

    async def until_ended(self, job: Job, seconds: float, peer: Hashable) -> None:
        """Waits until the job has ended, at most `seconds`; runs in a Drive.

        It then goes on in a turn of `peer`, who waits (Iteration.call_in_turn): hundreds may wait for one job.

        Raises:
            Refused: job_not_found, if the job has no owner any more.
        """
        if self.is_draining or not job.is_running:
            return
        signal = Signal()
        wake = partial(self._iteration.call_in_turn, signal.wake, peer, is_small=True)
        timer = self._loop.call_later(seconds, wake)
        job.waiters[signal] = self._waiting[signal] = wake
        self._watcher.hold(job)
        try:
            await signal
        finally:
            timer.cancel()
            job.waiters.pop(signal, None)
            self._waiting.pop(signal, None)
            self._watcher.let_go(job)
        if job.is_gone:
            raise job_not_found()

    def drain(self) -> None:
        """Wakes all waiters, some hundreds in an iteration of the loop; later calls do not wait at all."""
        self.is_draining = True
        call_each(deque(self._waiting.values()))
