"""Runs blocking work, such as reading files, on daemon threads that never keep the process from ending.

A read on a hung mount can't be cancelled, and the process waits for asyncio's own threads when it ends. So each call
has a daemon thread of its own, which dies with the process; callers wait for it with a timeout.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Final, TypeVar

T = TypeVar("T")
_MOST: Final = 4


class Aside:
    """Runs calls on threads, at most `most` at once; a hung call counts. For one event loop."""

    def __init__(self, most: int = _MOST) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, call: Callable[[], T], within: float, late: Callable[[], None] | None = None) -> T:
        """Returns or raises what the call does, within `within` seconds; that includes the wait for a thread.

        `late` is called when the call ends after that, whatever its outcome.

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

        def work() -> None:
            try:
                end = partial(_end_with, future, call())
            except Exception as error:  # noqa: BLE001 -- raised where the result is awaited
                end = partial(_fail_with, future, error)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ended, end)

        def ended(end: Callable[[], None]) -> None:
            self._free.release()
            if future.cancelled() and late is not None:
                late()
            end()

        try:
            Thread(target=work, name="aside", daemon=True).start()
        except RuntimeError:  # the system has no threads left just now
            self._free.release()
            raise
        return future


def _end_with(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail_with(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
