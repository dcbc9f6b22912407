"""Long polls: each waits until its job ends; one status request serves all that wait.

A waiting client costs its own coroutine, which it has anyway, a signal and a timer. A client that leaves is dropped
at once; a drain wakes all.
"""

import asyncio
from typing import Final

from gateway.aio.drive import Signal
from gateway.jobs.job import Job, job_not_found
from gateway.jobs.watcher import Watcher

_AT_ONCE: Final = 100


class LongPolls:
    """Keeps long polls waiting until their job ends. Not thread-safe: belongs to one event loop."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Signal, Job] = {}
        self._ready: list[Signal] = []
        self.is_draining = False

    def __repr__(self) -> str:
        draining = " draining" if self.is_draining else ""
        return f"<LongPolls{draining} waiting={len(self._waiting)} waking={len(self._ready)}>"

    def __len__(self) -> int:
        return len(self._waiting)

    async def until_ended(self, job: Job, seconds: float) -> None:
        """Waits until the job has ended, at most `seconds`; runs in a Drive.

        Raises:
            Refused: job_not_found, if the job has no owner any more.
        """
        if self.is_draining or not job.is_running:
            return
        signal = Signal()
        timer = self._loop.call_later(seconds, self._wake, signal)
        job.waiters[signal] = lambda: self._wake(signal)
        self._waiting[signal] = job
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
        """Wakes all waiters now; later calls do not wait at all."""
        self.is_draining = True
        for signal in list(self._waiting):
            self._wake(signal)

    def _wake(self, signal: Signal) -> None:
        """Wakes one at the loop's next turn, in batches small enough not to block the loop."""
        if not self._ready:
            self._loop.call_soon(self._go_on)
        self._ready.append(signal)

    def _go_on(self) -> None:
        ready, self._ready = self._ready[:_AT_ONCE], self._ready[_AT_ONCE:]
        if self._ready:
            self._loop.call_soon(self._go_on)
        for signal in ready:
            if signal.is_awaited:
                signal.set()
