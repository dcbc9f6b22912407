"""Work that nobody waits for, such as writing to the ledger what could not be written in time."""

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any


class Background:
    """Runs coroutines until they are done, or until it is closed. Not thread-safe."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Background running={len(self._tasks)}>"

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins one. It has to catch what it may raise."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, within: float) -> None:
        """Waits for all of them, also those begun meanwhile, `within` seconds at most, then cancels what is left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.cancel()


def keep_task(task: "asyncio.Task[Any]", tasks: "set[asyncio.Task[Any]]") -> None:
    """Keeps a task among these until it ends. Its error counts as seen then: nobody may wait for it any more."""
    tasks.add(task)
    task.add_done_callback(partial(_end, tasks))


def _end(tasks: "set[asyncio.Task[Any]]", task: "asyncio.Task[Any]") -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()
