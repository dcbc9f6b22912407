"""Runs blocking work, such as reading files, on daemon threads that never keep the process from ending.

A read on a hung mount can't be cancelled, and the process waits for asyncio's own threads when it ends. So each call
has a daemon thread to itself, which dies with the process; callers wait for it with a timeout. A thread costs more
than what it does for a call that comes each second: so some that have ended their calls may wait for the next ones.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Final, TypeVar
from weakref import finalize

T = TypeVar("T")
_Work = Callable[[], None]
_MOST: Final = 4


class DaemonThreads:
    """Runs calls on threads, at most `most` at once; a hung call counts. For one event loop.

    `workers` makes its threads, and may keep some for the next calls.
    """

    def __init__(self, most: int = _MOST, workers: "Workers | None" = None) -> None:
        self._free = asyncio.Semaphore(most)
        self._workers = workers or Workers()

    async def run(self, call: Callable[[], T], within: float | None, late: Callable[[], None] | None = None) -> T:
        """Returns or raises what the call does, within `within` seconds; that includes the wait for a thread.

        `within` None: whenever it ends. `late` is called when the call ends after that, whatever its outcome.

        Raises:
            TimeoutError: the call was not done by then. Its later result is dropped.
            RuntimeError: no thread can be started.
        """
        async with asyncio.timeout(within):
            await self._free.acquire()
            return await self._begin(call, late)

    def _begin(self, call: Callable[[], T], late: Callable[[], None] | None) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        worker = self._worker()

        def work() -> None:
            try:
                end = partial(_end_with, future, call())
            except Exception as error:  # noqa: BLE001 -- raised where the result is awaited
                end = partial(_fail_with, future, error)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended, end)

        def ended(end: Callable[[], None]) -> None:
            self._free.release()
            self._workers.give_back(worker)
            if future.cancelled() and late is not None:
                late()
            end()

        worker.put(work)
        return future

    def _worker(self) -> "Worker":
        try:
            return self._workers.take()
        except RuntimeError:  # the system has no threads left just now
            self._free.release()
            raise


class Workers:
    """Threads that wait for work: new ones, or up to `keeps` of those that have ended theirs.

    To start one the loop stands still until it has run for an instant, for which it may have to wait.

    Args:
        keeps: how many that have no work are kept.
        name: of each thread.
    """

    def __init__(self, keeps: int = 0, name: str = "daemon") -> None:
        self._keeps = keeps
        self._name = name
        self._kept: list[Worker] = []

    def take(self) -> "Worker":
        """A thread that waits for work.

        Raises:
            RuntimeError: the system has no threads left.
        """
        return self._kept.pop() if self._kept else Worker(self._name)

    def give_back(self, worker: "Worker") -> None:
        """Takes one back that has ended its work."""
        if len(self._kept) < self._keeps:
            self._kept.append(worker)
        else:
            worker.end()


class Worker:
    """A thread that does what is put to it, one after the other, until `end`, or until nobody knows it any more.

    It does `first` first.
    """

    def __init__(self, name: str = "daemon", first: _Work | None = None) -> None:
        """Starts it.

        Raises:
            RuntimeError: the system has no threads left.
        """
        queue: SimpleQueue[_Work | None] = SimpleQueue()
        if first is not None:
            queue.put(first)
        Thread(target=_work, args=(queue,), name=name, daemon=True).start()
        self.put = queue.put
        self.end = finalize(self, queue.put, None)


def _work(queue: "SimpleQueue[_Work | None]") -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # with all that it holds


def _end_with(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail_with(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
