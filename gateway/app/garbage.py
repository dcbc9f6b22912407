"""Collects garbage of all ages: a full collection goes through all live objects in one piece.

With 10,000 connections that takes a third of a second. Left to itself Python does it whenever enough objects were
made, which clients could bring about by what they send. It has little to find, since few objects are cyclic: so it is
rare here, and waits for a moment without a request, unless memory grows: what failed requests leave is cyclic.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

EVERY: Final = 5.0
"""Seconds between two looks."""
IN_QUIET: Final = 600.0
"""Seconds between two full collections while the gateway is idle now and then."""
AT_LAST: Final = 3600.0
"""After so many seconds without a quiet moment it does not wait for one any more."""
SOONEST: Final = 10.0
"""Seconds between two full collections while memory grows."""
GROWTH: Final = 8_388_608
"""Bytes above the level after the last one from which on memory has grown."""

NEVER: Final = 1_000_000_000
"""A threshold for generation 2 that is not reached: so many collections of generation 1."""


class FullCollection:
    """Decides when a full collection is due; pure. Takes the time in seconds and the resident bytes."""

    __slots__ = ("_last", "_level")

    def __init__(self, now: float, resident: int) -> None:
        self._last = now
        self._level = resident

    def is_due(self, now: float, resident: int, *, is_idle: bool) -> bool:
        """Whether to collect now; `is_idle`: no request would wait for it."""
        self._level = min(self._level, resident)
        is_growing = resident - self._level >= GROWTH
        return now - self._last >= (SOONEST if is_growing else IN_QUIET if is_idle else AT_LAST)

    def note_end(self, now: float, resident: int) -> None:
        """Takes the end of one, and the level that it has left."""
        self._last = now
        self._level = resident


async def collect_garbage(
    is_idle: Callable[[], bool],
    clock: Callable[[], float],
    resident: Callable[[], int],
    collect: Callable[[], object] = gc.collect,
) -> None:
    """Looks every 5 seconds, forever."""
    full = FullCollection(clock(), resident())
    while True:
        await asyncio.sleep(EVERY)
        if full.is_due(clock(), resident(), is_idle=is_idle()):
            collect()
            full.note_end(clock(), resident())
