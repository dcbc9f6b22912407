"""Counts what is done in each iteration of the loop."""

import asyncio
from collections import Counter


class Turns:
    """Counts it: `done` by number of the iteration."""

    def __init__(self) -> None:
        self.done = Counter[int]()
        self._now = 0
        self._next = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._now += 1
        self._next = asyncio.get_running_loop().call_soon(self._turn)

    def note(self, count: int = 1) -> None:
        self.done[self._now] += count

    def most(self) -> int:
        """The most that was done in one; it counts no more."""
        self._next.cancel()
        return max(self.done.values())
