"""A loop by what pure code needs of it: a clock that tests move, and calls that wait for the next iteration.

And iterations of the loop that runs.
"""

import asyncio
from collections.abc import Callable


class Loop:
    """`now` is in seconds."""

    def __init__(self) -> None:
        self.now = 100.0
        self._ready: list[Callable[[], None]] = []

    def clock(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], None]) -> None:
        self._ready.append(call)

    @property
    def has_more(self) -> bool:
        """Whether something waits for the next iteration."""
        return bool(self._ready)

    def iterate(self) -> None:
        """Makes the calls that wait, but for those that begin to wait meanwhile."""
        ready, self._ready = self._ready, []
        for call in ready:
            call()


async def steps(count: int) -> None:
    """Lets the running loop iterate so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
