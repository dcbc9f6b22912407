"""Long polls: held until their job ends; one status request serves all that wait.

What a client that waits costs is its own coroutine, which it has anyway, a signal and a timer. One that leaves is
forgotten at once; a drain lets all go on.
"""

import asyncio
from typing import Final

from gateway.aio.drive import Signal
from gateway.jobs.job import Job, job_not_found
from gateway.jobs.watcher import Watcher

_AT_ONCE: Final = 100


class LongPolls:
    """Holds polls until their job ends. Belongs to one loop."""

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
        """Waits until a job has ended, so long at most; in a Drive.

        Raises:
            Refused: job_not_found, when it is nobody's any more.
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
        """Lets all that wait go on now, and nobody wait from now on."""
        self.is_draining = True
        for signal in list(self._waiting):
            self._wake(signal)

    def _wake(self, signal: Signal) -> None:
        """Lets one go on at the loop's next turn, with others, but not with so many that the loop stands still."""
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
