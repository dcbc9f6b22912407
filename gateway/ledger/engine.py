"""What the rest of the gateway knows of a ledger: transactions in, results or LedgerUnavailable out."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
REPORT_SECONDS: Final = 60.0


class Engine(Protocol):
    """Runs transactions: synchronous functions of a Connection, each all or nothing, each with a deadline.

    An awaiting coroutine may run in a Drive: only futures are awaited. A wait that ends early, by a deadline or an
    interruption, says nothing about the transaction: it may still be committed.
    """

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Runs a transaction that may write; `durable` when it must survive a loss of power, too.

        Raises:
            LedgerUnavailable: the deadline is over, or the database could not.
        """

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs a transaction that only reads; no writer waits for it.

        Raises:
            LedgerUnavailable: as above.
        """

    async def report(self, work: Callable[[Connection], T]) -> T:
        """Runs a long look at the ledger, which neither a reader nor a writer waits for; within a minute.

        Raises:
            LedgerUnavailable: as above.
        """

    async def close(self) -> None:
        """Ends it; what runs may end within the deadline."""
