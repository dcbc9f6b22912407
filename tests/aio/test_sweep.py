"""sweep.py by a clock of its own: who is swept, when, and how many at once."""

import asyncio
from typing import Final

import pytest

from gateway.aio.iteration import Iteration
from gateway.aio.sweep import TICK, DeadlineSweep
from tests.support.loop import steps

MANY: Final = 1_000


class Raising:
    """Is swept in vain."""

    def sweep(self, now: float) -> None:
        raise ValueError(now)


class Swept:
    """Notes when it was swept."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def sweep(self, now: float) -> None:
        self.at.append(now)


class Clock:
    """The loop's time, as a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


def sweep_now() -> DeadlineSweep:
    loop = asyncio.get_running_loop()
    return DeadlineSweep(loop, Iteration(lambda: 0.0, loop.call_soon))


async def test_each_is_swept_while_it_is_there(clock: Clock) -> None:
    sweep, one, other, ticks = sweep_now(), Swept(), Swept(), list[float]()
    sweep.add(one)
    sweep.add(other)
    sweep.also(ticks.append)
    sweep.sweep()
    sweep.remove(other)
    clock.now = 2.0
    sweep.sweep()
    assert (one.at, other.at, ticks) == ([0.0, 2.0], [0.0], [0.0, 2.0])


async def test_of_thousands_a_portion_is_swept_at_once(clock: Clock) -> None:
    sweep, all_of_them, ticks = sweep_now(), [Swept() for _ in range(MANY)], list[float]()
    for one in all_of_them:
        sweep.add(one)
    sweep.also(ticks.append)
    sweep.sweep()
    at_once = sum(bool(one.at) for one in all_of_them)
    clock.now = 2.0
    sweep.sweep()  # the round before has not ended: it goes on
    assert 0 < at_once <= MANY // 4
    assert sum(bool(one.at) for one in all_of_them) == at_once
    await steps(20)
    first = [one.at for one in all_of_them]
    # Each is told the time at which it is swept: its own deadlines stood still until then.
    assert sorted(first) == [[0.0]] * at_once + [[2.0]] * (MANY - at_once)
    clock.now = 3.0
    sweep.sweep()
    await steps(20)
    assert [one.at[1:] for one in all_of_them] == [[3.0]] * MANY
    assert ticks == [0.0, 2.0, 3.0]


async def test_its_portions_wait_for_no_client() -> None:
    """Thousands that wait for turns of theirs are those whose time it lets stand still."""
    loop = asyncio.get_running_loop()
    iteration = Iteration(lambda: 0.0, loop.call_soon)
    sweep, all_of_them = DeadlineSweep(loop, iteration), [Swept() for _ in range(MANY)]
    for number, one in enumerate(all_of_them):
        sweep.add(one)
        iteration.call_in_turn(lambda: iteration.add(1.0, 0), number, is_small=True)
    sweep.sweep()
    await steps(20)
    assert all(one.at for one in all_of_them)


async def test_who_leaves_meanwhile_is_not_swept() -> None:
    sweep, all_of_them = sweep_now(), [Swept() for _ in range(MANY)]
    for one in all_of_them:
        sweep.add(one)
    sweep.sweep()
    left = [one for one in all_of_them if not one.at]
    for one in left:
        sweep.remove(one)
    await steps(20)
    assert not any(one.at for one in left)


async def test_one_that_raises_keeps_no_other_from_its_turn() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    sweep, others = sweep_now(), [Swept() for _ in range(MANY)]
    sweep.add(Raising())
    for one in others:
        sweep.add(one)
    try:
        sweep.sweep()
    except ValueError as error:
        failures.append(error)
    await steps(20)
    assert len(failures) == 1
    assert sum(bool(one.at) for one in others) >= MANY - MANY // 4


async def test_it_ends_when_it_is_stopped() -> None:
    sweep, all_of_them = sweep_now(), [Swept() for _ in range(MANY)]
    sweep.stop()  # nothing to stop
    for one in all_of_them:
        sweep.add(one)
    sweep.start()
    sweep.stop()
    swept = sum(bool(one.at) for one in all_of_them)
    await steps(20)
    assert sum(bool(one.at) for one in all_of_them) == swept < MANY


async def test_it_sweeps_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    monkeypatch.setattr(loop, "call_later", lambda delay, _: timers.append(delay))
    sweep, one = sweep_now(), Swept()
    sweep.add(one)
    sweep.start()
    assert (len(timers), len(one.at)) == (1, 1)
    assert 0.0 < timers[0] <= TICK * 1.05
