"""What nobody waits for is done, or cancelled once its time is over."""

import asyncio
import gc
from typing import Any

from structlog.testing import capture_logs

from gateway.aio.background import Background, keep_task

LONG = 30.0


async def test_closing_waits_for_what_runs() -> None:
    background, go_on, done = Background(), asyncio.Event(), list[str]()

    async def work(name: str) -> None:
        await go_on.wait()
        done.append(name)

    background.start(work("a"))
    background.start(work("b"))
    assert repr(background) == "<Background running=2>"
    asyncio.get_running_loop().call_soon(go_on.set)
    await background.close(LONG)
    assert done == ["a", "b"]
    assert repr(background) == "<Background running=0>"


async def test_what_does_not_end_in_time_is_cancelled() -> None:
    background, cancelled = Background(), asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    background.start(hang())
    await background.close(0.001)
    await asyncio.wait_for(cancelled.wait(), LONG)


async def test_what_fails_is_told_without_its_values() -> None:
    background = Background()

    async def fail() -> None:
        raise ValueError("canary")

    with capture_logs() as logs:
        background.start(fail())
        await background.close(LONG)
    (told,) = logs
    assert told["event"] == "work in the background failed"
    assert told["error"].startswith("ValueError at ")
    assert "canary" not in str(logs)


async def test_closing_with_nothing_to_do_is_over_at_once() -> None:
    await Background().close(0.0)


async def test_closing_waits_for_what_begins_meanwhile() -> None:
    background, done = Background(), asyncio.Event()

    async def begin_another() -> None:
        await asyncio.sleep(0)
        background.start(end())

    async def end() -> None:
        await asyncio.sleep(0)
        done.set()

    background.start(begin_another())
    await background.close(LONG)
    assert done.is_set()


async def test_a_task_is_kept_until_it_ends_and_its_error_is_seen() -> None:
    tasks, complaints, loop = set[asyncio.Task[Any]](), list[object](), asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    async def fail() -> None:
        raise ValueError

    keep_task(loop.create_task(fail()), tasks)
    keep_task(cancelled := loop.create_task(asyncio.sleep(LONG)), tasks)
    assert len(tasks) == 2
    cancelled.cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    gc.collect()
    assert (tasks, complaints) == (set(), [])
