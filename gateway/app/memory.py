"""Gives memory back to the system after a peak: glibc keeps what was freed, for a use that may never come.

50 strangers whose heads are large leave hundreds of megabytes behind. What is kept is of use while requests come: so
it goes back only while the gateway has nothing to do, in one call that no request waits for.
"""

import asyncio
import ctypes
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

GROWTH: Final = 16_777_216
"""Bytes above the least that was seen. For less, nothing is given back."""
EVERY: Final = 10.0
"""Seconds between two looks."""
_STATM: Final = Path("/proc/self/statm")


class Peak:
    """Decides when memory goes back; pure. Takes bytes that are resident, and whether there is nothing to do."""

    __slots__ = ("_before", "_least")

    def __init__(self, resident: int) -> None:
        self._least = resident
        self._before = resident

    def is_over(self, resident: int, *, is_idle: bool) -> bool:
        """Whether memory has grown by GROWTH and more, hardly grows any more, and nobody would wait for it now."""
        before, self._before = self._before, resident
        self._least = min(self._least, resident)
        return is_idle and resident - before < GROWTH // 4 and resident - self._least >= GROWTH

    def settle(self, resident: int) -> None:
        """Takes what is left once memory went back: it is what the gateway needs, and what it grows from."""
        self._least = self._before = resident


def resident_bytes() -> int:
    """What the kernel counts as resident of this process; 0 where it does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def trim() -> None:
    """Lets the C library give freed memory back. Does nothing where it can't (musl)."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


async def release_memory(is_idle: Callable[[], bool]) -> None:
    """Looks every 10 seconds, for ever; trims on a thread, for it takes some milliseconds for each 100 MB."""
    peak = Peak(resident_bytes())
    while True:
        await asyncio.sleep(EVERY)
        if peak.is_over(resident_bytes(), is_idle=is_idle()):
            await asyncio.to_thread(trim)
            peak.settle(resident_bytes())
