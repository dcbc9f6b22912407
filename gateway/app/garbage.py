"""Collects garbage of all ages, at quiet moments: a full collection goes through all live objects in one piece.

With 10,000 connections that takes a third of a second. Left to itself Python does it whenever enough objects were
made, which clients could bring about by what they send. It has little to find, since few objects are cyclic: so it is
rare here, and waits for a moment without a request.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

EVERY: Final = 10.0
"""Seconds between two looks for a quiet moment."""
IN_QUIET: Final = 600.0
"""Seconds between two full collections."""
AT_LAST: Final = 3600.0
"""After so many seconds without a quiet moment it does not wait for one any more."""

NEVER: Final = 1_000_000_000
"""A threshold for generation 2 that is not reached: so many collections of generation 1."""


class FullCollection:
    """Decides when a full collection is due; pure. Takes the time in seconds, and whether the gateway is idle."""

    __slots__ = ("_last",)

    def __init__(self, now: float) -> None:
        self._last = now

    def is_due(self, now: float, *, is_idle: bool) -> bool:
        """Whether to collect now."""
        return now - self._last >= (IN_QUIET if is_idle else AT_LAST)

    def note_end(self, now: float) -> None:
        """Takes the end of one: the next is due that much later."""
        self._last = now


async def collect_garbage(
    is_idle: Callable[[], bool], clock: Callable[[], float], collect: Callable[[], object] = gc.collect
) -> None:
    """Looks every 10 seconds, forever."""
    full = FullCollection(clock())
    while True:
        await asyncio.sleep(EVERY)
        if full.is_due(clock(), is_idle=is_idle()):
            collect()
            full.note_end(clock())
