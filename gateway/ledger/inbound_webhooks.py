"""Inbound webhooks: each request_id of a receiver's name is forwarded once. Each function is one transaction.

The first process inserts a row with a lease and forwards; others that come meanwhile see the lease and wait for the
result. An expired lease was left by a dead process, and the next one takes it over.
"""

from enum import Enum, auto
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select, update

from gateway.ledger.among import among
from gateway.ledger.schema import received
from gateway.ledger.upserts import Upsert, or_nothing

_AT_ONCE: Final = 1000
_INSERT: Final = Upsert(received, or_nothing)


class Taken(Enum):
    """The state of a request_id that arrived."""

    FIRST = auto()
    """Not forwarded yet: the caller forwards it."""
    BUSY = auto()
    """Another process is forwarding it now."""
    HANDLED = auto()
    """It was forwarded."""


def take(connection: Connection, name: str, request_id: str, now: float, until: int) -> Taken:
    """Leases a request_id if it is free; the lease ends at `until`. Times are seconds since the epoch."""
    row = connection.execute(select(received).where(*_of(name, request_id)).with_for_update()).first()
    if row is None:
        return _insert(connection, name, request_id, until)
    if row.until > now:
        return Taken.HANDLED if row.handled else Taken.BUSY
    values = {"handled": 0, "until": until}
    connection.execute(update(received).where(*_of(name, request_id)).values(values))
    return Taken.FIRST


def handled(connection: Connection, name: str, request_id: str, lease: int, until: float) -> None:
    """Records that the holder of the lease that ends at `lease` has forwarded it; the row is kept until `until`."""
    values = {"handled": 1, "until": int(until)}
    connection.execute(update(received).where(*_leased(name, request_id, lease)).values(values))


def give_back(connection: Connection, name: str, request_id: str, lease: int) -> None:
    """Deletes it, because it could not be forwarded: the sender's next attempt counts as the first."""
    connection.execute(delete(received).where(*_leased(name, request_id, lease)))


def forget(connection: Connection, now: float) -> int:
    """Deletes expired rows, a batch at a time; returns how many."""
    key, is_over = (received.c.name, received.c.request_id), received.c.until <= int(now)
    over = select(*key).where(is_over).order_by(received.c.until).limit(_AT_ONCE).with_for_update(skip_locked=True)
    rows = [tuple(row) for row in connection.execute(over)]
    if rows:
        connection.execute(delete(received).where(among(key, rows)))
    return len(rows)


def _insert(connection: Connection, name: str, request_id: str, until: int) -> Taken:
    row = {"name": name, "request_id": request_id, "handled": 0, "until": until}
    is_first = connection.execute(_INSERT.for_(connection), row).rowcount
    return Taken.FIRST if is_first else Taken.BUSY  # on PostgreSQL another may have been first, just now


def _of(name: str, request_id: str) -> tuple[ColumnElement[bool], ...]:
    return received.c.name == name, received.c.request_id == request_id


def _leased(name: str, request_id: str, lease: int) -> tuple[ColumnElement[bool], ...]:
    return (*_of(name, request_id), received.c.handled == 0, received.c.until == lease)
