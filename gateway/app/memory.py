"""Returns memory to the system after a peak: glibc keeps freed memory for a reuse that may never come.

50 unauthenticated clients with large heads leave hundreds of megabytes behind. While requests come the kept memory is
useful. So it goes back only when the gateway is idle, in one call on a thread. A request that comes meanwhile may
wait for the allocator: for 25 ms with 260 MB (measured).
"""

import asyncio
import ctypes
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

GROWTH: Final = 16_777_216
"""Bytes above the base. Below this growth nothing is given back."""
EVERY: Final = 10.0
"""Seconds between two checks."""
_FALL: Final = GROWTH // 30
"""Bytes by which the base falls with each check: what was in use when memory went back is free some minutes later."""
_STATM: Final = Path("/proc/self/statm")


class Peak:
    """Decides when memory goes back; pure. Takes resident bytes, and whether the gateway is idle.

    The base, above which memory has to grow, is the lowest level; after memory went back it is the level of then,
    and falls slowly: what clients held then, and is free by now, is resident all the same.
    """

    __slots__ = ("_base", "_before", "_least")

    def __init__(self, resident: int) -> None:
        self._least = self._base = resident
        self._before = resident

    def is_over(self, resident: int, *, is_idle: bool) -> bool:
        """Whether memory has grown by GROWTH or more, has stopped growing, and no request would wait now."""
        before, self._before = self._before, resident
        self._least = min(self._least, resident)
        self._base = max(self._least, min(self._base, resident) - _FALL)
        return is_idle and resident - before < GROWTH // 4 and resident - self._base >= GROWTH

    def note_calm(self, resident: int) -> None:
        """Takes the level after memory went back as the new base: so much the gateway needs now."""
        self._base = self._before = resident
        self._least = min(self._least, resident)


def resident_bytes() -> int:
    """The resident bytes of this process as the kernel counts them; 0 where it does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def trim() -> None:
    """Makes the C library return freed memory. Does nothing where it can't (musl)."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


async def release_memory(is_idle: Callable[[], bool]) -> None:
    """Checks every 10 seconds, forever; trims on a thread, since that takes some milliseconds for each 100 MB."""
    peak = Peak(resident_bytes())
    while True:
        await asyncio.sleep(EVERY)
        if peak.is_over(resident_bytes(), is_idle=is_idle()):
            with suppress(RuntimeError):  # the system has no threads left: the next check tries again
                await asyncio.to_thread(trim)
                peak.note_calm(resident_bytes())
