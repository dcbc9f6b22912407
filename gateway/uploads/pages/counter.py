"""Counts the pages of hostile files: in a few worker processes, each within one deadline.

A worker that does not answer in time, answers nonsense or dies is killed and never asked again. What can't be counted
is None, not an error: the profile's cap is reserved for it. A worker belongs to one request at a time; when the wait
for it is broken off, it is killed, so that its late answer is never taken for another's.

Waiting for a worker is not counting: who waits has a deadline of its own, and what had no turn within it is refused,
for that says nothing of the document. Turns are fair between accounts, those first whose documents were cheap of late
(fair_queue.py); each account may use so many seconds of the processor a minute (cpu_budget.py); and one whose
document was killed for time has none counted for a while: nobody can keep the others' documents from being counted by
sending such as take long.
"""

import asyncio
import math
from pathlib import Path
from typing import Final

from gateway.errors import Refused
from gateway.model.reasons import Denial, Reason
from gateway.uploads.pages.cpu_budget import CpuBudgets
from gateway.uploads.pages.fair_queue import FairQueue
from gateway.uploads.pages.suspensions import Suspensions
from gateway.uploads.pages.worker_process import Content, WorkerProcess

_MEMORY: Final = 512 * 1_048_576  # bytes of address space
_SECONDS: Final = 10.0
_PATIENCE: Final = 60.0  # seconds that a document may wait for its turn
_BUDGET: Final = 10.0  # seconds of the processor for each account and minute
_RETRY_AFTER: Final = 5  # seconds
_MAX_ANSWERS: Final = 1000  # a worker is replaced after so many, against whatever may grow in it
_REAP_SECONDS: Final = 0.05  # until it is looked whether the killed have ended
_SUSPENDED: Final = 60.0  # seconds without a worker, for each document in a row that was killed for time


class PageCounter:
    """The workers of one loop: started when they are needed, kept until close()."""

    def __init__(
        self,
        processes: int = 2,
        timeout: float = _SECONDS,
        memory: int = _MEMORY,
        program: Path | None = None,
        patience: float = _PATIENCE,
        spending: CpuBudgets | None = None,
    ) -> None:
        """Takes how many workers there may be, the seconds for one document, and bytes of memory for one worker.

        `program` is what they run: worker.py, but for tests. `patience` is the longest wait for a turn, in seconds,
        `spending` what each account has used of the processor and may use; its times are the loop's.
        """
        self._timeout = timeout
        self._memory = memory
        self._program = program
        self._patience = patience
        self._spending = CpuBudgets(_BUDGET) if spending is None else spending
        self._turns = FairQueue(processes, lambda account: self._spending.of(account, self._now()))
        self._suspended = Suspensions(_SUSPENDED)
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._ending: list[WorkerProcess] = []
        self._tasks: set[asyncio.Task[int | None]] = set()
        self._reaping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        workers = f"idle={len(self._idle)} busy={len(self._busy)} ending={len(self._ending)}"
        return f"<PageCounter {workers} suspended={len(self._suspended)}>"

    async def count(self, fd: int, account: str = "", content: Content = Content.PDF) -> int | None:
        """Counts the pages in a file, which may be closed once this has ended, however it ended.

        The deadline begins once a worker has it.

        Returns:
            The pages, of a PDF as pdfium says; None if they can't be counted, or not within the deadline.

        Raises:
            Refused: spool_full, when its turn did not come, or the account has used what it may.
        """
        task = asyncio.get_running_loop().create_task(self._count_in_turn(fd, account, content))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    def close(self) -> None:
        """Kills all workers, and waits until they are gone: some milliseconds. What is being counted is given up."""
        for task in self._tasks:
            task.cancel()
        if self._reaping is not None:
            self._reaping.cancel()
        workers = [*self._idle, *self._busy, *self._ending]
        for worker in workers:
            worker.kill()
        for worker in self._idle:
            worker.disconnect()
        for worker in workers:
            worker.wait()
        self._idle.clear()
        self._ending.clear()

    async def _count_in_turn(self, fd: int, account: str, content: Content) -> int | None:
        if self._suspended.holds(account, self._now()):
            return None
        self._check_budget(account)
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.take(account)
        except TimeoutError:
            raise _no_turn() from None
        try:
            if self._suspended.holds(account, self._now()):  # since it began to wait
                return None
            self._check_budget(account)
            return await self._count_in_time(fd, account, content)
        finally:
            self._turns.give_back(account)

    async def _count_in_time(self, fd: int, account: str, content: Content) -> int | None:
        try:
            async with asyncio.timeout(self._timeout):
                pages = await self._ask(fd, account, content)
        except TimeoutError:  # of ours, or of the processor's time
            self._suspended.add(account, self._now())
            return None
        except OSError:  # no process can be started, or it died
            return None
        self._suspended.end(account)
        return pages

    def _check_budget(self, account: str) -> None:
        wait = self._spending.wait(account, self._now())
        if wait > 0:
            raise _no_time(wait)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _ask(self, fd: int, account: str, content: Content) -> int | None:
        worker = self._take()
        self._busy.add(worker)
        began, before = self._now(), worker.cpu_seconds
        try:
            pages = await worker.ask(fd, content)
        except BaseException:
            self._end(worker)
            raise
        finally:
            self._busy.discard(worker)
            after = worker.cpu_seconds
            used = self._now() - began if before is None or after is None else after - before
            self._spending.add(account, used, self._now())
        if worker.answers < _MAX_ANSWERS:
            self._idle.append(worker)
        else:
            self._end(worker)
        return pages

    def _take(self) -> WorkerProcess:
        while self._idle:
            worker = self._idle.pop()
            if not worker.is_gone:
                return worker
            worker.disconnect()
        return WorkerProcess(self._memory, max(1, round(self._timeout)), self._program)

    def _end(self, worker: WorkerProcess) -> None:
        worker.kill()
        worker.disconnect()
        self._ending.append(worker)
        self._reap()

    def _reap(self) -> None:
        self._ending = [worker for worker in self._ending if not worker.is_gone]
        if self._ending:
            self._reaping = asyncio.get_running_loop().call_later(_REAP_SECONDS, self._reap)


def _no_time(wait: float) -> Refused:
    detail = "The documents of this account took long to count; they have used what they may of this minute."
    return Refused(Denial(Reason.SPOOL_FULL, detail, retry_after=math.ceil(wait)))


def _no_turn() -> Refused:
    detail = "So many documents are being counted that this one had no turn."
    return Refused(Denial(Reason.SPOOL_FULL, detail, retry_after=_RETRY_AFTER))
