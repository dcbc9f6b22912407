import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway.aio.drive import Drive, Signal


class Stop(Exception):
    pass


class Run:
    """A coroutine under way, and all that was told of its end."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.ends: list[BaseException | None] = []
        self.drive = Drive(coroutine, self.ends.append)
        self.drive.step()


async def turns(count: int = 3) -> None:
    """Lets the loop run what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


# Signals


def test_a_coroutine_that_waits_for_nothing_ends_at_once() -> None:
    async def work() -> None:
        pass

    assert Run(work()).ends == [None]


def test_a_signal_resumes_its_waiter_within_the_call_that_sets_it() -> None:
    signal, seen = Signal(), list[str]()

    async def work() -> None:
        await signal
        seen.append("resumed")

    run = Run(work())
    assert (seen, run.ends, signal.is_awaited) == ([], [], True)
    signal.set()
    assert (seen, run.ends, signal.is_awaited) == (["resumed"], [None], False)


def test_a_signal_set_early_lets_one_wait_pass() -> None:
    signal, seen = Signal(), list[int]()

    async def work() -> None:
        for number in range(3):
            await signal
            seen.append(number)

    signal.set()
    signal.set()  # twice is once
    run = Run(work())
    assert seen == [0]
    signal.set()
    assert seen == [0, 1]
    signal.set()
    assert (seen, run.ends) == ([0, 1, 2], [None])


def test_a_signal_that_was_set_can_be_forgotten() -> None:
    signal = Signal()

    async def work() -> None:
        await signal

    signal.set()
    signal.clear()
    run = Run(work())
    assert (run.ends, signal.is_awaited) == ([], True)
    signal.clear()  # forgets nothing: somebody waits
    signal.set()
    assert run.ends == [None]


def test_a_coroutine_may_set_its_own_next_signal() -> None:
    signal = Signal()

    async def work() -> None:
        signal.set()
        await signal

    assert Run(work()).ends == [None]


def test_two_coroutines_pass_the_turn_to_each_other() -> None:
    ping, pong, seen = Signal(), Signal(), list[str]()

    async def one() -> None:
        await ping
        seen.append("ping")
        pong.set()
        seen.append("after")

    async def two() -> None:
        await pong
        seen.append("pong")

    runs = [Run(one()), Run(two())]
    ping.set()
    assert seen == ["ping", "pong", "after"]
    assert [run.ends for run in runs] == [[None], [None]]


def test_what_is_awaited_inside_is_the_same_run() -> None:
    signal, seen = Signal(), list[str]()

    async def inner(name: str) -> str:
        await signal
        return name

    async def work() -> None:
        seen.append(await inner("a"))
        seen.append(await inner("b"))

    run = Run(work())
    signal.set()
    assert (seen, run.ends) == (["a"], [])
    signal.set()
    assert (seen, run.ends) == (["a", "b"], [None])


# How it ends


@pytest.mark.parametrize("error", [Stop(), asyncio.CancelledError(), KeyboardInterrupt()])
def test_the_owner_is_told_the_error_that_ended_it(error: BaseException) -> None:
    signal = Signal()

    async def work() -> None:
        await signal
        raise error

    run = Run(work())
    signal.set()
    assert run.ends == [error]


# Futures and the loop


async def test_a_future_resumes_its_waiter_at_the_loops_next_turn() -> None:
    future, seen = asyncio.get_running_loop().create_future(), list[str]()

    async def work() -> None:
        seen.append(await future)

    run = Run(work())
    future.set_result("x")
    assert (seen, run.ends) == ([], [])
    await turns(1)
    assert (seen, run.ends) == (["x"], [None])


async def test_behind_a_future_it_goes_on_when_its_owner_has_time_for_it() -> None:
    future, ends, later = asyncio.get_running_loop().create_future(), list[BaseException | None](), list[Any]()

    async def work() -> None:
        await future

    Drive(work(), ends.append, later.append).step()
    future.set_result(None)
    await turns()
    assert (len(later), ends) == (1, [])
    later[0]()
    assert ends == [None]


async def test_an_interrupt_meanwhile_ends_that_wait() -> None:
    future, ends, later, error = asyncio.get_running_loop().create_future(), list[Any](), list[Any](), Stop()

    async def work() -> None:
        await future

    drive = Drive(work(), ends.append, later.append)
    drive.step()
    future.set_result(None)
    await turns()
    drive.interrupt(error)
    later[0]()
    assert ends == [error]


async def test_a_future_that_is_done_is_no_wait() -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)

    async def work() -> None:
        await future

    assert Run(work()).ends == [None]


@pytest.mark.parametrize("is_caught", [True, False])
async def test_a_futures_error_is_raised_where_it_is_awaited(is_caught: bool) -> None:
    future, seen, error = asyncio.get_running_loop().create_future(), list[BaseException](), Stop()

    async def work() -> None:
        try:
            await future
        except Stop as caught:
            seen.append(caught)
            if not is_caught:
                raise

    run = Run(work())
    future.set_exception(error)
    await turns(1)
    assert (seen, run.ends) == ([error], [None if is_caught else error])


async def test_a_cancelled_future_is_an_error_too() -> None:
    future = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await future

    run = Run(work())
    future.cancel()
    await turns(1)
    (end,) = run.ends
    assert isinstance(end, asyncio.CancelledError)


async def test_a_bare_yield_goes_on_at_the_loops_next_turn() -> None:
    seen = list[str]()

    async def work() -> None:
        seen.append("before")
        await asyncio.sleep(0)
        seen.append("after")
        await asyncio.sleep(0)

    run = Run(work())
    assert seen == ["before"]
    await turns(1)
    assert (seen, run.ends) == (["before", "after"], [])
    await turns(1)
    assert run.ends == [None]


async def test_a_task_can_be_awaited() -> None:
    async def inner() -> str:
        async with asyncio.timeout(60):
            await turns()
        return "done"

    seen = list[str]()

    async def work() -> None:
        seen.append(await asyncio.get_running_loop().create_task(inner()))

    run = Run(work())
    await turns(6)
    assert (seen, run.ends) == (["done"], [None])


# Interrupts


def test_an_interrupt_ends_the_wait_for_a_signal() -> None:
    signal, error = Signal(), Stop()

    async def work() -> None:
        await signal

    run = Run(work())
    run.drive.interrupt(error)
    assert (run.ends, signal.is_awaited) == ([error], False)
    signal.set()  # nobody waits any more
    assert run.ends == [error]


async def test_an_interrupt_ends_the_wait_for_a_future_and_cancels_it() -> None:
    future, error = asyncio.get_running_loop().create_future(), Stop()

    async def work() -> None:
        await future

    run = Run(work())
    run.drive.interrupt(error)
    assert run.ends == [error]
    assert future.cancelled()
    await turns()
    assert run.ends == [error]


def test_an_interrupt_may_be_caught_and_the_work_go_on() -> None:
    first, second, seen = Signal(), Signal(), list[str]()

    async def work() -> None:
        try:
            await first
        except Stop:
            seen.append("interrupted")
        await second
        seen.append("went on")

    run = Run(work())
    run.drive.interrupt(Stop())
    assert (seen, run.ends, second.is_awaited) == (["interrupted"], [], True)
    first.set()
    assert seen == ["interrupted"]
    second.set()
    assert (seen, run.ends) == (["interrupted", "went on"], [None])


def test_an_interrupt_from_within_ends_the_next_wait() -> None:
    signal, error, seen = Signal(), Stop(), list[str]()
    runs: list[Drive] = []

    async def work() -> None:
        await signal
        runs[0].interrupt(error)
        seen.append("still running")
        await signal

    run = Run(work())
    runs.append(run.drive)
    signal.set()
    assert (seen, run.ends, signal.is_awaited) == (["still running"], [error], False)


async def test_an_interrupt_from_within_ends_a_wait_for_a_future_or_a_turn_too() -> None:
    future = asyncio.get_running_loop().create_future()
    for awaitable in (future, asyncio.sleep(0)):
        start, runs, error = Signal(), list[Drive](), Stop()

        async def work(
            start: Signal = start, runs: list[Drive] = runs, error: Stop = error, end: Any = awaitable
        ) -> None:
            await start
            runs[0].interrupt(error)
            await end

        run = Run(work())
        runs.append(run.drive)
        start.set()
        assert run.ends == [error]
        await turns()
        assert run.ends == [error]
    assert future.cancelled()


def test_an_interrupt_of_what_does_not_wait_is_nothing() -> None:
    async def work() -> None:
        pass

    ends: list[BaseException | None] = []
    drive = Drive(work(), ends.append)
    drive.interrupt(Stop())  # not started
    assert ends == []
    drive.step()
    drive.interrupt(Stop())  # over
    assert ends == [None]


async def test_an_interrupt_after_the_future_is_done_resumes_once() -> None:
    """Data for a client's body and an early answer of the upstream, in one turn of the loop."""
    future, error = asyncio.get_running_loop().create_future(), Stop()

    async def work() -> None:
        await future

    run = Run(work())
    future.set_result(None)
    run.drive.interrupt(error)
    await turns()
    assert run.ends == [error]


async def test_an_interrupt_after_the_future_is_done_wakes_no_later_wait() -> None:
    future, signal, seen = asyncio.get_running_loop().create_future(), Signal(), list[str]()

    async def work() -> None:
        try:
            await future
        except Stop:
            seen.append("interrupted")
        await signal
        seen.append("signal")

    run = Run(work())
    future.set_result(None)
    run.drive.interrupt(Stop())
    await turns()
    assert (seen, run.ends, signal.is_awaited) == (["interrupted"], [], True)
    signal.set()
    assert (seen, run.ends) == (["interrupted", "signal"], [None])


async def test_an_interrupt_during_a_bare_yield_resumes_once() -> None:
    error = Stop()

    async def work() -> None:
        await asyncio.sleep(0)

    run = Run(work())
    run.drive.interrupt(error)
    await turns()
    assert run.ends == [error]


def test_what_an_interrupt_ended_leaves_no_cycle_to_the_garbage_collector() -> None:
    class Held:
        """What the coroutine holds when it is ended."""

    signal, held = Signal(), list[weakref.ref[Held]]()

    async def work() -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        await signal

    drive = Drive(work(), lambda _: None)
    gc.disable()
    try:
        drive.step()
        drive.interrupt(ValueError("ended"))
        assert held[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [None, Stop()])
def test_it_lets_go_of_what_it_called_at_its_end(error: Stop | None) -> None:
    class Owner:
        """Knows its Drive, which knows it."""

        def __init__(self) -> None:
            self.drive = Drive(work(), self.ended)

        def ended(self, _: BaseException | None) -> None:
            pass

    async def work() -> None:
        if error is not None:
            raise error

    gc.disable()
    try:
        owner = Owner()
        owner.drive.step()
        kept = weakref.ref(owner)
        del owner
        assert kept() is None
    finally:
        gc.enable()
