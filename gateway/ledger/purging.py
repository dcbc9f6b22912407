"""Removes old records a batch at a time, as many in a turn as the busiest minute leaves behind.

Fewer would never be enough: where more came about than was removed, the ledger would grow for ever.
"""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from gateway.ledger.ledger import Ledger

MAX_BATCHES: Final = 100
"""In one turn, of 200 records or more; a replica on SQLite takes some 240 submits a second."""


async def purge_all(ledger: Ledger, work: Callable[[Connection], int]) -> bool:
    """Runs a work that removes a batch, and returns how many, until none is left; False: there may be more.

    Raises:
        LedgerUnavailable: some are left.
    """
    for _ in range(MAX_BATCHES):
        if not await ledger.write(work):
            return True
    return False
