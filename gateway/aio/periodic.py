"""Runs periodic work each second, for as long as the process lives.

All work of a period begins at the same moments of the loop's clock: a process that has nothing else to do wakes once
for all of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import LedgerUnavailable, whereabouts

PAUSE: Final = 1.0  # from one turn to the next
_LEAST: Final = 0.05  # of a period: timers may fire a little early


async def take_turns(turn: Callable[[int], Awaitable[None]], failed: Callable[[str], None]) -> None:
    """Calls `turn` with its number, each second until cancelled; a turn that takes longer skips some.

    LedgerUnavailable is ignored: the ledger has reported it. For any other error `failed` gets its place in the code,
    and the next turn still comes.
    """
    loop, number = asyncio.get_running_loop(), 0
    while True:
        try:
            await turn(number)
        except LedgerUnavailable:
            pass
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next turn must come
            failed(whereabouts(error))
        number += 1
        await asyncio.sleep(until_next(loop.time(), PAUSE))


def until_next(now: float, period: float) -> float:
    """Seconds until the next of the moments at which all work of this period begins."""
    left = period - now % period
    return left if left > period * _LEAST else left + period
