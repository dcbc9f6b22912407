"""periodic.py: each turn comes, whatever the one before it did."""

import asyncio

import pytest

from gateway.aio.periodic import take_turns, until_next
from gateway.errors import LedgerUnavailable


async def test_the_next_turn_comes_whatever_one_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("gateway.aio.periodic.asyncio.sleep", pause)
    numbers: list[int] = []
    told: list[str] = []

    async def turn(number: int) -> None:
        numbers.append(number)
        if number == 0:
            raise LedgerUnavailable
        if number == 1:
            raise ValueError(number)
        if number == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await take_turns(turn, told.append)
    assert (numbers, len(pauses)) == ([0, 1, 2, 3], 3)
    assert all(0.05 < pause <= 1.05 for pause in pauses)
    assert len(told) == 1
    assert "ValueError" in told[0]


@pytest.mark.parametrize(
    ("now", "period", "left"),
    [(7.0, 1.0, 1.0), (7.25, 1.0, 0.75), (7.96, 1.0, 1.04), (7.25, 5.0, 2.75), (10.0, 5.0, 5.0), (9.9, 5.0, 5.1)],
)
def test_all_work_of_a_period_begins_at_the_same_moments(now: float, period: float, left: float) -> None:
    """Ten tasks that slept a second each woke an idle process ten times a second."""
    assert until_next(now, period) == pytest.approx(left)


async def test_tasks_that_began_at_different_moments_have_their_turns_at_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.2)
    loop = asyncio.get_running_loop()
    moments: list[list[float]] = [[], [], []]

    async def work(mine: list[float]) -> None:
        async def turn(_: int) -> None:
            mine.append(loop.time())

        await take_turns(turn, lambda _: None)

    tasks = []
    for mine in moments:
        tasks.append(loop.create_task(work(mine)))
        await asyncio.sleep(0.03)
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for mine in moments:
        assert abs(mine[1] % 0.2 - 0.1) > 0.07, "at a whole fifth of a second, early or late by less than 30 ms"
