"""Collects garbage of all ages: a full collection goes through all live objects in one piece.

With 10,000 connections that takes a third of a second. Left to itself Python does it whenever enough objects were
made, which clients could bring about by what they send. It has little to find, since what a request or a connection
leaves is not cyclic (tests/flows/test_nothing_left.py): so it is rare here, and waits for a moment without a request.
Should something cyclic be left all the same, memory grows: then it comes sooner, as long as it finds much. Memory in
use grows, too, as clients like: so each one that found little makes the next one of these wait twice as long.
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
"""Seconds between two full collections while memory grows, at a quiet moment, and while they find much."""
IN_MOTION: Final = 60.0
"""The same where there is no quiet moment."""
GROWTH: Final = 8_388_608
"""Bytes above the level after the last one from which on memory has grown; more, if a quarter of the level is."""
MUCH: Final = 1000
"""Objects; if fewer are found, it is not them that made memory grow."""

NEVER: Final = 1_000_000_000
"""A threshold for generation 2 that is not reached: so many collections of generation 1."""


class FullCollection:
    """Decides when a full collection is due; pure. Takes the time in seconds and the resident bytes."""

    __slots__ = ("_is_growing", "_last", "_level", "_pause")

    def __init__(self, now: float, resident: int) -> None:
        self._last = now
        self._level = resident
        self._pause = SOONEST
        self._is_growing = False

    def is_due(self, now: float, resident: int, *, is_idle: bool) -> bool:
        """Whether to collect now; `is_idle`: no request would wait for it."""
        self._level = min(self._level, resident)
        self._is_growing = resident - self._level >= max(GROWTH, self._level // 4)
        if self._is_growing:
            return now - self._last >= (self._pause if is_idle else max(self._pause, IN_MOTION))
        return now - self._last >= (IN_QUIET if is_idle else AT_LAST)

    def note_end(self, now: float, resident: int, found: int) -> None:
        """Takes the end of one, the level that it has left, and how many objects it found."""
        if found >= MUCH:
            self._pause = SOONEST
        elif self._is_growing:
            self._pause = min(2 * self._pause, IN_QUIET)
        else:
            self._pause = max(self._pause / 2, SOONEST)
        self._last = now
        self._level = resident


async def collect_garbage(
    is_idle: Callable[[], bool],
    clock: Callable[[], float],
    resident: Callable[[], int],
    collect: Callable[[], int] = gc.collect,
) -> None:
    """Looks every 5 seconds, forever."""
    full = FullCollection(clock(), resident())
    while True:
        await asyncio.sleep(EVERY)
        if full.is_due(clock(), resident(), is_idle=is_idle()):
            found = collect()
            full.note_end(clock(), resident(), found)
