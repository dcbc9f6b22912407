"""periodic.py: each turn comes, whatever the one before it did."""

import asyncio

import pytest

from gateway.aio.periodic import take_turns
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
    assert (numbers, pauses) == ([0, 1, 2, 3], [1.0, 1.0, 1.0])
    assert len(told) == 1
    assert "ValueError" in told[0]
