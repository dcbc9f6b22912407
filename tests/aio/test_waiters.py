"""Those who share a thing go on a few at a time, in order, and who has given up holds nobody back."""

import asyncio
from collections import deque
from functools import partial
from itertools import pairwise

import pytest

from gateway.aio.waiters import CALLS_AT_ONCE, Waiters, call_each


async def test_they_go_on_a_few_in_each_iteration_and_in_order() -> None:
    waiters, gone_on = Waiters(), list[int]()

    async def wait(number: int) -> None:
        await waiters.wait()
        gone_on.append(number)

    tasks = [asyncio.ensure_future(wait(number)) for number in range(100)]
    await asyncio.sleep(0)
    assert len(waiters) == 100
    waiters.release()
    counts = [0]
    while len(gone_on) < 100:
        await asyncio.sleep(0)
        counts.append(len(gone_on))
    assert max(after - before for before, after in pairwise(counts)) == 16
    assert gone_on == [*range(100)]
    await asyncio.gather(*tasks)


async def test_who_has_given_up_is_forgotten() -> None:
    waiters = Waiters()
    tasks = [asyncio.ensure_future(waiters.wait()) for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[:39]:
        task.cancel()
    waiters.release()  # in the very iteration in which they give up
    await tasks[39]
    assert len(waiters) == 0
    leaving = asyncio.ensure_future(waiters.wait())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert len(waiters) == 0


async def test_of_many_calls_some_are_made_at_once_and_the_rest_later_in_order() -> None:
    made = list[int]()
    call_each(deque(partial(made.append, number) for number in range(1000)))
    counts = [0, len(made)]
    while len(made) < 1000:
        await asyncio.sleep(0)
        counts.append(len(made))
    assert max(after - before for before, after in pairwise(counts)) == CALLS_AT_ONCE
    assert made == [*range(1000)]


def test_few_calls_need_no_loop() -> None:
    made = list[int]()
    call_each(deque([partial(made.append, 1)]))
    call_each(deque())
    assert made == [1]
