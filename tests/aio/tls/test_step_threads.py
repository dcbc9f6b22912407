"""Threads for long steps: which run, at which priority, and what becomes of them."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from unittest.mock import patch
from weakref import ref

from gateway.aio.tls.step_order import LONG, Standing, ThreadLane
from gateway.aio.tls.step_threads import StepThreads
from tests.support.waiting import eventually

LONGEST = 60.0


class Step:
    """Runs until it may end; notes where."""

    def __init__(self, *, waits: bool = False, shows: Standing | None = None) -> None:
        self.may_end = threading.Event()
        if not waits:
            self.may_end.set()
        self.shown = shows
        self.thread: threading.Thread | None = None
        self.priority = 0
        self.error: Exception | None = None
        self.has_ended = False

    def run(self) -> None:
        self.thread = threading.current_thread()
        self.priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.may_end.wait(LONGEST)

    def refuse(self, error: Exception) -> None:
        self.error = error

    def ended(self) -> None:
        self.has_ended = True


def threads_with(cost: Callable[[], float] = lambda: 0.0, lanes: tuple[ThreadLane, ...] | None = None) -> StepThreads:
    loop = asyncio.get_running_loop()
    return StepThreads(loop.time, cost=cost) if lanes is None else StepThreads(loop.time, lanes, cost)


async def run(threads: StepThreads, source: str, step: Step) -> Step:
    threads.begin(source, step)
    await eventually(lambda: step.has_ended)
    return step


async def test_strangers_run_at_a_lower_priority_and_who_proved_something_as_the_loop_does() -> None:
    threads = threads_with()
    stranger = await run(threads, "a", Step(shows=Standing.PROVED))
    known = await run(threads, "a", Step())
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert (stranger.priority, known.priority) == (min(mine + 10, 19), mine)
    assert stranger.thread is not known.thread


async def test_a_thread_is_kept_for_the_next_step_and_ends_with_who_kept_it() -> None:
    threads = threads_with()
    first, second = await run(threads, "a", Step()), await run(threads, "b", Step())
    assert first.thread is second.thread
    assert first.thread is not None
    threads_ref = ref(threads)
    del threads
    await eventually(lambda: threads_ref() is None)  # its thread may still look at it
    await asyncio.to_thread(first.thread.join, LONGEST)
    assert not first.thread.is_alive()


async def test_of_one_source_alone_several_steps_run_at_once() -> None:
    threads = StepThreads.of_one(asyncio.get_running_loop().time)
    steps = [Step(waits=True) for _ in range(4)]
    for step in steps:
        threads.begin("container", step)
    await eventually(lambda: all(step.thread is not None for step in steps))
    for step in steps:
        step.may_end.set()
    await eventually(lambda: all(step.has_ended for step in steps))


async def test_of_many_threads_one_is_kept() -> None:
    threads = threads_with()
    steps = [Step(waits=True) for _ in range(3)]
    for source, step in zip("abc", steps, strict=True):
        threads.begin(source, step)
    await eventually(lambda: all(step.thread is not None for step in steps))
    for step in steps:
        step.may_end.set()
    await eventually(lambda: all(step.has_ended for step in steps))
    await eventually(lambda: sum(step.thread is not None and step.thread.is_alive() for step in steps) == 1)


async def test_who_took_long_comes_after_the_others() -> None:
    ticks = iter([0.0, 2 * LONG])
    threads = threads_with(lambda: next(ticks, 0.0), (ThreadLane(1, Standing.OWES),))
    await run(threads, "a", Step())
    running, late, soon = Step(waits=True), Step(), Step()
    threads.begin("x", running)
    threads.begin("a", late)
    threads.begin("b", soon)
    order = list[str]()
    with (
        patch.object(late, "ended", lambda: order.append("a")),
        patch.object(soon, "ended", lambda: order.append("b")),
    ):
        running.may_end.set()
        await eventually(lambda: len(order) == 2)
    assert order == ["b", "a"]


async def test_who_is_dropped_before_its_turn_never_runs() -> None:
    threads = threads_with(lanes=(ThreadLane(1, Standing.OWES),))
    running, waiting = Step(waits=True), Step()
    threads.begin("a", running)
    threads.begin("b", waiting)
    assert repr(threads) == "<StepThreads waiting=1>"
    assert threads.drop("b", waiting)
    assert not threads.drop("a", running)
    running.may_end.set()
    await eventually(lambda: running.has_ended)
    assert (waiting.thread, waiting.has_ended, repr(threads)) == (None, False, "<StepThreads waiting=0>")


async def test_without_a_thread_a_step_is_refused_and_the_next_may_have_one() -> None:
    threads = threads_with()
    refused = Step()
    with patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
        threads.begin("a", refused)
        assert not refused.has_ended  # not within the call
        await eventually(lambda: refused.has_ended)
    assert (refused.thread, type(refused.error)) == (None, ConnectionError)
    assert (await run(threads, "a", Step())).thread is not None


async def test_a_kernel_that_knows_no_priorities_is_no_fault() -> None:
    threads = threads_with()
    with patch("os.setpriority", side_effect=PermissionError):
        assert (await run(threads, "a", Step())).priority == os.getpriority(os.PRIO_PROCESS, 0)


def test_a_step_that_ends_after_its_loop_is_no_fault() -> None:
    step = Step(waits=True)

    async def main() -> None:
        threads_with().begin("a", step)
        await eventually(lambda: step.thread is not None)

    asyncio.run(main())
    step.may_end.set()
    assert step.thread is not None
    step.thread.join(LONGEST)
    assert not step.has_ended
    gc.collect()
