"""Webhooks that came in: each request_id of a name is handed on once. Each function is one transaction.

Whoever is first inserts a row with a lease and hands on; who comes meanwhile sees the lease and waits for what comes
of it. A lease that has ended was left by someone who died, and the next one takes it over.
"""

from enum import Enum, auto
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.ledger.schema import received

_AT_ONCE: Final = 1000
_INSERT: Final = {
    "sqlite": sqlite.insert(received).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(received).on_conflict_do_nothing(),
}


class Taken(Enum):
    """What is known of a request_id that came."""

    FIRST = auto()
    """Nobody has handed it on: whoever is told this does."""
    BUSY = auto()
    """Somebody is handing it on now."""
    HANDLED = auto()
    """It was handed on."""


def take(connection: Connection, name: str, request_id: str, now: float, until: int) -> Taken:
    """Takes a request_id, if nobody has; the lease ends at `until`. Times are seconds since the epoch."""
    row = connection.execute(select(received).where(*_of(name, request_id)).with_for_update()).first()
    if row is None:
        return _insert(connection, name, request_id, until)
    if row.until > now:
        return Taken.HANDLED if row.handled else Taken.BUSY
    values = {"handled": 0, "until": until}
    connection.execute(update(received).where(*_of(name, request_id)).values(values))
    return Taken.FIRST


def handled(connection: Connection, name: str, request_id: str, lease: int, until: float) -> None:
    """Notes that it was handed on, by who has the lease that ends at `lease`; it is known until `until`."""
    values = {"handled": 1, "until": int(until)}
    connection.execute(update(received).where(*_leased(name, request_id, lease)).values(values))


def give_back(connection: Connection, name: str, request_id: str, lease: int) -> None:
    """Forgets it, for it could not be handed on: the sender's next try is a first one."""
    connection.execute(delete(received).where(*_leased(name, request_id, lease)))


def forget(connection: Connection, now: float) -> int:
    """Deletes what need not be known any more, some at once; how many."""
    over = select(received.c.name, received.c.request_id).where(received.c.until <= int(now)).limit(_AT_ONCE)
    rows = sorted((row.name, row.request_id) for row in connection.execute(over))
    still = received.c.until <= int(now)
    for row in rows:
        connection.execute(delete(received).where(*_of(*row), still))
    return len(rows)


def _insert(connection: Connection, name: str, request_id: str, until: int) -> Taken:
    row = {"name": name, "request_id": request_id, "handled": 0, "until": until}
    is_first = connection.execute(_INSERT[connection.dialect.name], row).rowcount
    return Taken.FIRST if is_first else Taken.BUSY  # on PostgreSQL somebody may have been first, a moment ago


def _of(name: str, request_id: str) -> tuple[ColumnElement[bool], ...]:
    return received.c.name == name, received.c.request_id == request_id


def _leased(name: str, request_id: str, lease: int) -> tuple[ColumnElement[bool], ...]:
    return (*_of(name, request_id), received.c.handled == 0, received.c.until == lease)
