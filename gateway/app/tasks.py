"""Background tasks of the process: each is owned by a stack that cancels it; a failure is logged."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from gateway.errors import whereabouts

log = structlog.get_logger()


def work(stack: AsyncExitStack, *jobs: Coroutine[Any, Any, None]) -> None:
    """Runs coroutines as tasks until the stack ends; logs those that fail."""
    for job in jobs:
        task = asyncio.get_running_loop().create_task(job)
        task.add_done_callback(_log_failure)
        stack.push_async_callback(_end, task)


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background work ended", error=whereabouts(error))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
