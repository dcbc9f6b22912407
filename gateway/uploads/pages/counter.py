"""Counts the pages of hostile files in a few worker processes, each with a deadline.

A worker that answers late, answers nonsense or dies is killed and never used again. An uncountable document yields
None, not an error: the profile's cap is reserved for it. A worker serves one request at a time; if the wait for it is
cancelled, it is killed, so that its late answer is never taken for another request's. The start of the next one costs
fifty times what counting does: it is charged to the owner whose document or client ended the one before.

The wait for a worker has a deadline of its own. A document that gets no turn within it is refused, since the wait
says nothing about the document. Turns are fair between owners; owners whose recent documents were cheap come first,
and those whose documents are dear never have all workers (fair_queue.py, count_history.py). Each owner has a CPU
budget per minute (cpu_budget.py). All this an owner has once, for all its keys: so no owner can keep the documents of
others from being counted by sending expensive ones.

An account whose document was killed for its time, or ended its worker, is suspended: its documents are not counted
for a while, and cost the cap. That is each account's own: other keys of its owner may be other people's.
"""

import asyncio
import math
import os
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import Refused
from gateway.model.reasons import RETRY_SOON, Denial, Reason
from gateway.uploads.pages.count_history import CountHistory
from gateway.uploads.pages.cpu_budget import CpuBudgets
from gateway.uploads.pages.fair_queue import FairQueue
from gateway.uploads.pages.suspensions import Suspensions
from gateway.uploads.pages.worker_process import WorkerProcess
from gateway.uploads.pages.worker_protocol import Content

_MEMORY: Final = 512 * 1_048_576  # bytes of address space
_SECONDS: Final = 10.0
_PATIENCE: Final = 60.0  # seconds that a document may wait for its turn
_BUDGET: Final = 10.0  # CPU seconds for each owner and minute
_START_COST: Final = 0.05  # CPU seconds: what a start usually takes
MAX_ANSWERS: Final = 1000  # after so many a worker is replaced, against any leak in it
_REAP_SECONDS: Final = 0.05  # between checks whether the killed workers have ended
SUSPENDED: Final = 60.0  # seconds of suspension for each document in a row that was killed for its time


class PageCounter:
    """The workers of one event loop: started on demand, kept until close()."""

    def __init__(
        self,
        processes: int = 2,
        timeout: float = _SECONDS,
        memory: int = _MEMORY,
        program: Path | None = None,
        patience: float = _PATIENCE,
        spending: CpuBudgets | None = None,
    ) -> None:
        """Takes the most workers, the seconds for one document, and the bytes of memory for one worker.

        `program` is what they run: worker.py, except in tests. `patience` is the longest wait for a turn, in seconds;
        `spending` holds the CPU budgets of owners, with times of the loop's clock.
        """
        self._timeout = timeout
        self._memory = memory
        self._program = program
        self._patience = patience
        self._spending = CpuBudgets(_BUDGET) if spending is None else spending
        self._history = CountHistory()
        self._turns = FairQueue(processes, lambda owner, size: self._history.outlook(owner, size, self._now()))
        self._suspended = Suspensions(SUSPENDED)
        self._start_cost = _START_COST  # of the last worker that was ready
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._ending: list[WorkerProcess] = []
        self._tasks: set[asyncio.Task[int | None]] = set()
        self._reaping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        workers = f"idle={len(self._idle)} busy={len(self._busy)} ending={len(self._ending)}"
        return f"<PageCounter {workers} suspended={len(self._suspended)}>"

    async def count(self, fd: int, account: str = "", content: Content = Content.PDF, owner: str = "") -> int | None:
        """Counts the pages in a file; the caller may close the file once this has returned or raised.

        The deadline starts when a worker gets the file; the start of a worker has its own. Turns and CPU budget are
        the owner's, else the account's.

        Returns:
            The pages, for a PDF as pdfium says; None if they can't be counted, or not within the deadline.

        Raises:
            Refused: spool_full, when its turn did not come, or the owner's CPU budget is used up.
        """
        task = asyncio.get_running_loop().create_task(self._count_in_turn(fd, account, content, owner or account))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await task

    def close(self) -> None:
        """Kills all workers, and waits for their end: some milliseconds. Running counts are given up."""
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

    async def _count_in_turn(self, fd: int, account: str, content: Content, owner: str) -> int | None:
        if self._suspended.holds(account, self._now()):
            return None
        self._check_budget(owner)
        try:
            async with asyncio.timeout(self._patience):
                is_dear = await self._turns.take(owner, os.fstat(fd).st_size, account)
        except TimeoutError:
            raise _no_turn() from None
        try:
            if self._suspended.holds(account, self._now()):  # it may be so since the wait began
                return None
            self._check_budget(owner)
            return await self._count_in_time(fd, account, content, owner)
        finally:
            self._turns.give_back(owner, is_dear=is_dear)

    async def _count_in_time(self, fd: int, account: str, content: Content, owner: str) -> int | None:
        try:
            pages = await self._ask(fd, content, owner)
        except (TimeoutError, ConnectionResetError, ConnectionAbortedError):
            # Our deadline or the worker's CPU limit, a crash, nonsense: each costs a new worker, 3 ms of the loop.
            self._suspended.add(account, self._now())
            return None
        except OSError:  # no process could be started, or not in time, or somebody killed it
            return None
        self._suspended.end(account)
        return pages

    def _check_budget(self, owner: str) -> None:
        wait = self._spending.wait(owner, self._now())
        if wait > 0:
            raise _no_time(wait)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _ask(self, fd: int, content: Content, owner: str) -> int | None:
        worker = self._take()
        self._busy.add(worker)
        spent: _Spent | None = None
        lost, shown = 0.0, 0
        try:
            await worker.ready()
            self._start_cost = worker.start_seconds
            spent = _Spent(worker, self._now(), worker.cpu_seconds)
            async with asyncio.timeout(self._timeout):
                pages = await worker.ask(fd, content)
            shown = 0 if pages is None else os.fstat(fd).st_size
        except BaseException:
            self._end(worker)
            # Another will be started in its place, for whoever comes next. This one may have no start behind it yet.
            lost = self._start_cost
            raise
        finally:
            self._busy.discard(worker)
            # Of a start only what the kernel says: one that ended by itself has waited, most of its time, for others.
            used = lost + (worker.cpu_seconds or 0.0 if spent is None else spent.until(self._now()))
            self._spending.add(owner, used, self._now())
            self._history.add(owner, used, self._now(), shown)
        if worker.answers < MAX_ANSWERS:
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


class _Spent(NamedTuple):
    """What a worker had used at a moment: CPU seconds, or None when that can't be known."""

    worker: WorkerProcess
    at: float
    cpu_seconds: float | None

    def until(self, now: float) -> float:
        """The CPU seconds that it has used since, or else the time."""
        after = self.worker.cpu_seconds
        return now - self.at if self.cpu_seconds is None or after is None else after - self.cpu_seconds


def _no_time(wait: float) -> Refused:
    detail = "The documents of this owner took long to count; they have used what they may of this minute."
    return Refused(Denial(Reason.SPOOL_FULL, detail, retry_after=math.ceil(wait)))


def _no_turn() -> Refused:
    detail = "So many documents are being counted that this one had no turn."
    return Refused(Denial(Reason.SPOOL_FULL, detail, retry_after=RETRY_SOON))
