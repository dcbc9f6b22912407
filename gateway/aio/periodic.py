"""Work that is due a second after the last time, for as long as the process runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.errors import LedgerUnavailable, whereabouts

_PAUSE: Final = 1.0


async def take_turns(turn: Callable[[int], Awaitable[None]], failed: Callable[[str], None]) -> None:
    """Takes a turn, and another a second after it ended, until it is cancelled; `turn` gets its number.

    A ledger that is away has told of it; of whatever else a turn raises, `failed` gets the place in the code. The
    next turn comes all the same.
    """
    number = 0
    while True:
        try:
            await turn(number)
        except LedgerUnavailable:
            pass
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next turn comes
            failed(whereabouts(error))
        number += 1
        await asyncio.sleep(_PAUSE)
