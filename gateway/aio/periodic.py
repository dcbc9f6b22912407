"""Runs periodic work, with a pause of a second after each run, for as long as the process lives."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import LedgerUnavailable, whereabouts

_PAUSE: Final = 1.0


async def take_turns(turn: Callable[[int], Awaitable[None]], failed: Callable[[str], None]) -> None:
    """Calls `turn` with its number, again a second after each call ended, until cancelled.

    LedgerUnavailable is ignored: the ledger has reported it. For any other error `failed` gets its place in the code,
    and the next turn still comes.
    """
    number = 0
    while True:
        try:
            await turn(number)
        except LedgerUnavailable:
            pass
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next turn must come
            failed(whereabouts(error))
        number += 1
        await asyncio.sleep(_PAUSE)
