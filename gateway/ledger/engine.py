"""What the rest of the gateway knows of a ledger: transactions in, results or LedgerUnavailable out."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
REPORT_SECONDS: Final = 60.0


class Engine(Protocol):
    """Runs transactions: synchronous functions of a Connection, each all or nothing, each with a deadline.

    Accounts are served in turn: `of` says whose a transaction is, and is empty for the gateway's own. To wait for a
    turn has a deadline of its own; that of the transaction begins with it.

    An awaiting coroutine may run in a Drive: only futures are awaited. A wait that ends early, by a deadline or an
    interruption, says nothing about the transaction: it may still be committed.
    """

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, of: str = "") -> T:
        """Runs a transaction that may write; `durable` when it must survive a loss of power, too.

        Raises:
            LedgerUnavailable: the deadline is over, or the database could not.
        """

    async def guarded(self, work: Callable[[Connection], T], *, of: str = "") -> T:
        """Runs statements of which each is all or nothing by itself, and guards what it writes by what was read.

        On PostgreSQL each is a transaction of its own: that saves the round trips of BEGIN and COMMIT.

        Raises:
            LedgerUnavailable: as above.
        """

    async def read(self, work: Callable[[Connection], T], *, of: str = "") -> T:
        """Runs statements that only read; no writer waits for them.

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
