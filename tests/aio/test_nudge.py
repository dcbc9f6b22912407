"""A nudge ends a wait, once; and so does time."""

import asyncio

import pytest

from gateway.aio.nudge import Nudge

LONG = 30.0


async def test_it_ends_a_wait_and_the_next_until_it_is_cleared() -> None:
    nudge = Nudge()
    waiting = asyncio.ensure_future(nudge.wait(LONG))
    await asyncio.sleep(0)
    nudge.set()
    nudge.set()
    await waiting
    assert nudge.is_set
    await nudge.wait(LONG)
    nudge.clear()
    assert not nudge.is_set


async def test_time_ends_a_wait_and_sets_nothing() -> None:
    nudge = Nudge()
    for _ in range(2):
        await nudge.wait(0.01)
    assert not nudge.is_set


async def test_a_wait_may_be_cancelled_and_begun_again() -> None:
    nudge = Nudge()
    waiting = asyncio.ensure_future(nudge.wait(LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    nudge.set()
    await nudge.wait(LONG)
