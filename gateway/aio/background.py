"""Work that nobody waits for, such as writing to the ledger what could not be written in time."""

import asyncio
import contextlib
from collections.abc import Coroutine
from functools import partial
from typing import Any

import structlog

from gateway.errors import whereabouts

log = structlog.get_logger()


class Background:
    """Runs coroutines until they are done, or until it is closed. Not thread-safe."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Background running={len(self._tasks)}>"

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins one. It has to catch what it may raise: what it does not is a fault of ours, and logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("work in the background failed", error=whereabouts(error))

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
