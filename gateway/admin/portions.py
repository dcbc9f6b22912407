"""Converts the rows of a long answer without holding the event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

_PORTION: Final = 50  # rows at the most: some four milliseconds of usual ones
_SECONDS: Final = 0.002  # no row begins later in an iteration: a key may have hundreds of secrets and networks
Row = TypeVar("Row")
Item = TypeVar("Item")


async def convert_all(
    rows: Sequence[Row],
    convert: Callable[[Row], Item],
    portion: int = _PORTION,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Item]:
    """Converts rows in order, a portion in each iteration of the loop: so many, or what a moment suffices for."""
    found: list[Item] = []
    begun, end = clock(), portion
    for row in rows:
        if len(found) >= end or clock() - begun >= _SECONDS:
            await asyncio.sleep(0)
            begun, end = clock(), len(found) + portion
        found.append(convert(row))
    return found
