"""Calls that block have threads of their own: a deadline, a bound, and none keeps a process from ending."""

import asyncio
import gc
import subprocess
import sys
from threading import Event, Thread, current_thread, get_ident

import pytest

from gateway.aio.daemon_threads import DaemonThreads, Workers
from tests.support.waiting import eventually

LONG = 30.0


async def test_what_a_call_returns_and_raises_comes_back() -> None:
    daemons = DaemonThreads()
    assert await daemons.run(lambda: current_thread().daemon, LONG) is True
    with pytest.raises(KeyError):
        await daemons.run(lambda: dict[str, int]()["key"], LONG)


async def test_a_call_that_hangs_is_left_and_its_place_comes_back_with_it() -> None:
    daemons, over = DaemonThreads(1), Event()
    try:
        for _ in range(2):  # the second one waits for the only place
            with pytest.raises(TimeoutError):
                await daemons.run(over.wait, 0.05)
    finally:
        over.set()
    assert await daemons.run(lambda: 1, LONG) == 1


async def test_an_error_that_comes_too_late_is_nobodys() -> None:
    daemons, over = DaemonThreads(1), Event()

    def fail() -> None:
        over.wait(LONG)
        raise KeyError

    with pytest.raises(TimeoutError):
        await daemons.run(fail, 0.05)
    over.set()
    assert await daemons.run(lambda: 1, LONG) == 1


async def test_late_is_called_when_a_call_ends_after_its_timeout() -> None:
    daemons, over, late = DaemonThreads(1), Event(), asyncio.Event()
    with pytest.raises(TimeoutError):
        await daemons.run(over.wait, 0.05, late.set)
    assert not late.is_set()
    over.set()
    async with asyncio.timeout(LONG):
        await late.wait()
    late.clear()
    assert await daemons.run(lambda: 1, LONG, late.set) == 1
    assert not late.is_set()


async def test_a_thread_that_can_not_be_begun_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    daemons = DaemonThreads(1)

    def fail(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", fail)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await daemons.run(lambda: 1, LONG)
    assert await daemons.run(lambda: 1, LONG) == 1


async def test_a_thread_that_is_kept_serves_the_next_call() -> None:
    daemons = DaemonThreads(workers=Workers(keeps=1))
    first = await daemons.run(get_ident, LONG)
    assert [await daemons.run(get_ident, LONG) for _ in range(3)] == [first] * 3
    with pytest.raises(KeyError):
        await daemons.run(lambda: dict[str, int]()["key"], LONG)
    assert await daemons.run(get_ident, LONG) == first


async def test_one_thread_is_kept_and_one_that_hangs_serves_nobody() -> None:
    daemons, over = DaemonThreads(2, Workers(keeps=1)), Event()
    hanging: list[Thread] = []

    def hang() -> None:
        hanging.append(current_thread())
        over.wait(LONG)

    with pytest.raises(TimeoutError):
        await daemons.run(hang, 0.05)
    first = await daemons.run(current_thread, LONG)
    assert await daemons.run(current_thread, LONG) is first
    over.set()
    await eventually(lambda: not hanging[0].is_alive())
    assert await daemons.run(current_thread, LONG) is first


async def test_threads_end_with_their_last_call_and_a_kept_one_with_who_kept_it() -> None:
    daemons, keeping = DaemonThreads(), DaemonThreads(workers=Workers(keeps=1))
    threads = [await daemons.run(current_thread, LONG), await keeping.run(current_thread, LONG)]
    threads[0].join(LONG)
    assert [thread.is_alive() for thread in threads] == [False, True]
    del keeping
    gc.collect()
    threads[1].join(LONG)
    assert not threads[1].is_alive()


async def test_who_is_cancelled_leaves_at_once() -> None:
    daemons, over = DaemonThreads(), Event()
    task = asyncio.get_running_loop().create_task(daemons.run(over.wait, LONG))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    over.set()


SCRIPT = """
import asyncio
from threading import Event
from gateway.aio.daemon_threads import DaemonThreads, Workers

async def main():
    try:
        await DaemonThreads().run(Event().wait, 0.05)
    except TimeoutError:
        print("left")

asyncio.run(main())
"""


def test_a_thread_that_hangs_keeps_no_process_from_ending() -> None:
    ended = subprocess.run(  # noqa: S603 -- our own interpreter and text
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "left\n"
