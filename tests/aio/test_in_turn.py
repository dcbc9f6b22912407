import asyncio
from collections.abc import Iterator
from functools import partial
from unittest.mock import ANY

import pytest

from gateway.aio.in_turn import make_in_turns, run_in_turn
from gateway.aio.iteration import MAX_SECONDS, Iteration
from tests.support.loop import Loop


async def test_work_that_cannot_be_divided_waits_for_an_iteration_with_time() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    done: list[int] = []

    def work(number: int) -> int:
        loop.now += MAX_SECONDS
        done.append(number)
        return number

    tasks = [asyncio.ensure_future(run_in_turn(iteration, partial(work, number), number)) for number in range(4)]
    await asyncio.sleep(0)
    assert done == [0]
    tasks[2].cancel()
    await asyncio.sleep(0)
    loop.iterate()
    assert done == [0, 1]
    loop.iterate()
    assert done == [0, 1, 3]
    assert await asyncio.gather(*tasks, return_exceptions=True) == [0, 1, ANY, 3]


async def test_what_such_work_raises_reaches_who_waits_for_it() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    iteration.add(MAX_SECONDS, 0)
    task = asyncio.ensure_future(run_in_turn(iteration, lambda: 1 // 0))
    await asyncio.sleep(0)
    loop.iterate()
    with pytest.raises(ZeroDivisionError):
        await task


@pytest.mark.parametrize(("cost", "turns"), [(0.0001, 4), (0.0015, 35), (0.003, 70)])
async def test_small_pieces_share_a_turn(cost: float, turns: int) -> None:
    """A scrape's seventy pieces had a turn each: where forty peers flooded, it took longer than a scraper waits."""
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)

    def pieces() -> Iterator[bytes]:
        for number in range(70):
            loop.now += cost
            yield b"%d," % number

    iteration.add(MAX_SECONDS, 0)
    task = asyncio.ensure_future(make_in_turns(iteration, pieces()))
    await asyncio.sleep(0)
    taken = 0
    while not task.done():
        loop.iterate()
        iteration.add(MAX_SECONDS, 0)  # others use up each iteration
        await asyncio.sleep(0)
        taken += 1
    assert await task == [b"%d," % number for number in range(70)]
    assert turns <= taken <= turns + 1
