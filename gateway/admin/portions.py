"""Converts the rows of a long answer without holding the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from gateway.aio.in_turn import run_in_later_turn
from gateway.aio.iteration import MAX_CHUNKS, Iteration

_PORTION: Final = 50  # rows at the most: some four milliseconds of usual ones
_SECONDS: Final = 0.002  # no row begins later in a portion: a key may have hundreds of secrets and networks
_OF_A_PORTION: Final = MAX_CHUNKS // 2
"""As many chunks (iteration.py) cost as much as a portion may."""

Row = TypeVar("Row")
Item = TypeVar("Item")


async def convert_all(
    rows: Sequence[Row], convert: Callable[[Row], Item], iteration: Iteration, portion: int = _PORTION
) -> list[Item]:
    """Converts rows in order, a portion in an iteration that has time for it: so many, or what a moment suffices for.

    All who convert share the time of an iteration: sixty lists at once hold the loop no longer than one.
    """
    found: list[Item] = []
    await _time_for_one(iteration)
    begun, end = iteration.clock(), portion
    for row in rows:
        if len(found) >= end or iteration.clock() - begun >= _SECONDS:
            await asyncio.sleep(0)
            await _time_for_one(iteration)
            begun, end = iteration.clock(), len(found) + portion
        found.append(convert(row))
    return found


async def _time_for_one(iteration: Iteration) -> None:
    """Waits for an iteration with time for one more portion, which is counted in advance."""
    count = partial(iteration.add, 0.0, _OF_A_PORTION)
    if iteration.is_over:
        await run_in_later_turn(iteration, count, is_small=True)  # before all that floods: an operator looks then
    else:
        count()
