"""The interface of a ledger: transactions in, results or LedgerUnavailable out."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway.errors import LedgerUnavailable, OwnerWaited, without_calls

T = TypeVar("T")
_Error = TypeVar("_Error", bound=BaseException)
REPORT_SECONDS: Final = 60.0


class OwnTurn(StrEnum):
    """Turns at the ledger of the gateway's own, beside those of all owners; no owner has such a name."""

    KEYS = "(keys)"
    NEWS = "(news)"
    JOBS = "(jobs)"
    HEARTBEAT = "(heartbeat)"
    REPORTS = "(reports)"


_OWN: Final = frozenset(OwnTurn)
OF_WEBHOOKS: Final = "(webhooks)"
"""The turn of webhooks that go out: as an owner's, for there may be very many. A late one makes the ledger
doubtful, not away: a write of the gateway's own decides."""


def turn_of_sender(name: str) -> str:
    """The turn of webhooks that come in by this name, as an owner's: whoever sends very many delays these first."""
    return f"(webhooks in: {name})"


def is_postgres(connection: Connection) -> bool:
    """Whether the ledger is on PostgreSQL: else it is on SQLite."""
    return connection.dialect.name == "postgresql"


def is_of_an_owner(turn: str) -> bool:
    """Whether a turn is an owner's, or as an owner's, not the gateway's own: its faults may be of its own making."""
    return bool(turn) and turn not in _OWN


def fault_of_waiting(in_turn_of: str) -> type[LedgerUnavailable]:
    """What to raise of a wait in vain."""
    return OwnerWaited if is_of_an_owner(in_turn_of) else LedgerUnavailable


def handed_on(error: _Error) -> _Error:
    """An error of a transaction, for who waits for it: without its calls, which hold the transaction, and him.

    Nor does the driver's own have them, of which SQLAlchemy made it.
    """
    if isinstance(error, DBAPIError) and error.orig is not None:
        without_calls(error.orig)
    return without_calls(error)


class Engine(Protocol):
    """Runs transactions: synchronous functions of a Connection, each all or nothing, each with a deadline.

    Owners are served in turn, each with all its accounts: a transaction takes the turn of the owner `in_turn_of`;
    empty or an OwnTurn: a turn of the gateway's own. The wait for a turn has its own deadline; the transaction's
    begins with the turn.

    An awaiting coroutine may run in a Drive: only futures are awaited. A wait that ends early, by a deadline or an
    interruption, says nothing about the transaction: it may still be committed.
    """

    async def write(self, work: Callable[[Connection], T], *, durable: bool = False, in_turn_of: str = "") -> T:
        """Runs a transaction that may write; `durable` if it must survive a power loss, too.

        Raises:
            LedgerUnavailable: the deadline has passed, or the database failed.
        """

    async def guarded(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """Runs statements that are each atomic, and that guard what they write by what was read.

        On PostgreSQL each is a transaction of its own, which saves the round trips of BEGIN and COMMIT.

        Raises:
            LedgerUnavailable: as above.
        """

    async def read(self, work: Callable[[Connection], T], *, in_turn_of: str = "") -> T:
        """Runs statements that only read; they block no writer.

        Raises:
            LedgerUnavailable: as above.
        """

    async def report(self, work: Callable[[Connection], T]) -> T:
        """Runs a slow query that blocks neither readers nor writers; within a minute.

        Raises:
            LedgerUnavailable: as above.
        """

    async def close(self) -> None:
        """Closes it; running transactions may end within the deadline."""
