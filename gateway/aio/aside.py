"""Work that blocks, such as reading files, on threads that keep nothing from ending.

A read on a mount that hangs can't be ended from outside, and asyncio's own threads are waited for when the process
ends. So each call has a thread of its own, which ends with the process; whoever waits for it does so for a while.
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
    """Runs calls on threads, `most` at once, those that hang included. For one loop."""

    def __init__(self, most: int = _MOST) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, call: Callable[[], T], within: float, late: Callable[[], None] | None = None) -> T:
        """What the call returns or raises; it has `within` seconds, the wait for a thread included.

        `late` is called when it ends after that, however it does.

        Raises:
            TimeoutError: it was not done by then. What it still does is nobody's.
            RuntimeError: no thread can be begun.
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
            except Exception as error:  # noqa: BLE001 -- it is for whoever waits
                end = partial(_fail_with, future, error)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(ended, end)

        def ended(end: Callable[[], None]) -> None:
            self._free.release()
            if future.cancelled() and late is not None:
                late()
            end()

        try:
            Thread(target=work, name="aside", daemon=True).start()
        except RuntimeError:  # there may be no more threads just now
            self._free.release()
            raise
        return future


def _end_with(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail_with(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
