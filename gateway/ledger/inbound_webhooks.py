"""Inbound webhooks: each message to a receiver's name is forwarded once. Each function is one transaction.

The first process inserts a row with a lease and forwards; others that come meanwhile see the lease and wait for the
result. An expired lease was left by a dead process, and the next one takes it over.

A message whose signature covers an id is known by that: a container may give a job's id again. Beside it a row of its
job's id says that it is COVERED: without the headers of that signature, which anybody can strip, it is no other one.
A row of a job's id that is not covered counts for a signed message, too: so versions before this one noted it.
"""

from collections.abc import Mapping
from enum import Enum, auto
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from gateway.ledger.among import among
from gateway.ledger.schema import received
from gateway.ledger.upserts import Upsert, or_nothing

_AT_ONCE: Final = 1000
_INSERT: Final = Upsert(received, or_nothing)
_FORWARDED, _COVERED = 1, 2  # of the column `handled`, which is 0 while somebody forwards it


class Message(NamedTuple):
    """What a webhook is known by: its job's id, or the id that its signature covers."""

    request_id: str
    signed_id: str | None = None

    @property
    def key(self) -> str:
        """What its own row is named; no job's id is like it if it is signed."""
        return (
            self.request_id if self.signed_id is None else f"webhook-id {sha256(self.signed_id.encode()).hexdigest()}"
        )


class Taken(Enum):
    """The state of a message that arrived."""

    FIRST = auto()
    """Not forwarded yet: the caller forwards it."""
    BUSY = auto()
    """Another process is forwarding it now."""
    HANDLED = auto()
    """It was forwarded."""


def take(connection: Connection, name: str, message: Message, now: float, until: int) -> Taken:
    """Leases a message if it is free; the lease ends at `until`. Times are seconds since the epoch."""
    rows = _locked(connection, name, message)
    told = [row.handled for row in rows if row.until > now and not (message.signed_id and row.handled == _COVERED)]
    if told:
        return Taken.HANDLED if any(told) else Taken.BUSY
    found = {row.request_id: row for row in rows}
    if message.signed_id and not _put(connection, name, message.request_id, found, _COVERED, until):
        return Taken.BUSY
    return Taken.FIRST if _put(connection, name, message.key, found, 0, until) else Taken.BUSY


def handled(connection: Connection, name: str, message: Message, lease: int, until: float) -> None:
    """Records that the holder of the lease that ends at `lease` has forwarded it; the row is kept until `until`."""
    _locked(connection, name, message)
    values = {"handled": _FORWARDED, "until": int(until)}
    connection.execute(update(received).where(*_leased(name, message, lease)).values(values))
    if message.signed_id:
        covering = update(received).where(*_covered(name, message)).values(until=int(until))
        if not connection.execute(covering.where(received.c.until < int(until))).rowcount:
            row = {"name": name, "request_id": message.request_id, "handled": _COVERED, "until": int(until)}
            connection.execute(_INSERT.for_(connection), row)


def give_back(connection: Connection, name: str, message: Message, lease: int) -> None:
    """Deletes it, because it could not be forwarded: the sender's next attempt counts as the first."""
    _locked(connection, name, message)
    connection.execute(delete(received).where(*_leased(name, message, lease)))
    if message.signed_id:
        connection.execute(delete(received).where(*_covered(name, message), received.c.until == lease))


def forget(connection: Connection, now: float) -> int:
    """Deletes expired rows, a batch at a time; returns how many."""
    key, is_over = (received.c.name, received.c.request_id), received.c.until <= int(now)
    over = select(*key).where(is_over).order_by(received.c.until).limit(_AT_ONCE).with_for_update(skip_locked=True)
    rows = [tuple(row) for row in connection.execute(over)]
    if rows:
        connection.execute(delete(received).where(among(key, rows)))
    return len(rows)


def _locked(connection: Connection, name: str, message: Message) -> list[Row[Any]]:
    """Its own row and that of its job's id, locked in one order."""
    keys = [message.request_id, message.key]
    query = select(received).where(received.c.name == name, received.c.request_id.in_(keys))
    return list(connection.execute(query.order_by(received.c.request_id).with_for_update()))


def _put(connection: Connection, name: str, key: str, found: Mapping[str, Row[Any]], state: int, until: int) -> bool:
    """Writes a row, unless another wrote it first, just now: on PostgreSQL both may look before."""
    if key not in found:
        row = {"name": name, "request_id": key, "handled": state, "until": until}
        return connection.execute(_INSERT.for_(connection), row).rowcount > 0
    values = {"handled": state, "until": max(until, found[key].until)}
    connection.execute(update(received).where(*_of(name, key)).values(values))
    return True


def _of(name: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return received.c.name == name, received.c.request_id == key


def _leased(name: str, message: Message, lease: int) -> tuple[ColumnElement[bool], ...]:
    return (*_of(name, message.key), received.c.handled == 0, received.c.until == lease)


def _covered(name: str, message: Message) -> tuple[ColumnElement[bool], ...]:
    return (*_of(name, message.request_id), received.c.handled == _COVERED)
