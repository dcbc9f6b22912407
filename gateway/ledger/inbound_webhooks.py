"""Inbound webhooks: each message to a receiver's name is forwarded once (deduplication).

Each function is one transaction. The first process inserts a row with a lease and forwards; others that come
meanwhile see the lease and wait for the result. An expired lease was left by a dead process, and the next one takes
it over.

A message whose signature covers an id is known by that: a container may give a job's id again. Beside it a row of its
job's id says so: without the headers of that signature, which anybody can strip, it is no other one. It is COVERING
while the message is forwarded, and then PLAIN, as is a message without such an id that was forwarded: for a signed
message neither counts, since what was stripped and sent again may be long over, and its id a new job's. A row of a
job's id that is FORWARDED does count: so versions before this one noted each message.
"""

from collections.abc import Collection, Mapping
from enum import Enum, auto
from hashlib import sha256
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, case, delete, select, update

from gateway.ledger.composite_keys import is_one_of
from gateway.ledger.schema import received
from gateway.ledger.upserts import Upsert, or_nothing

_AT_ONCE: Final = 1000
_INSERT: Final = Upsert(received, or_nothing)
_LEASED, _FORWARDED, _PLAIN, _COVERING = range(4)  # of the column `handled`
_COVERS: Final = frozenset({_PLAIN, _COVERING})
_OVER: Final = frozenset({_FORWARDED, _PLAIN})


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
    found = {row.request_id: row for row in rows}
    live = {row.request_id: row.handled for row in rows if row.until > now}
    told = [state for state in live.values() if not (message.signed_id and state in _COVERS)]
    if told:
        return Taken.BUSY if _OVER.isdisjoint(told) else Taken.HANDLED
    if message.signed_id:
        cover = _PLAIN if live.get(message.request_id) == _PLAIN else _COVERING
        if not _put(connection, name, message.request_id, found, cover, until):
            return Taken.BUSY
    return Taken.FIRST if _put(connection, name, message.key, found, _LEASED, until) else Taken.BUSY


def handled(connection: Connection, name: str, message: Message, lease: int, until: float) -> None:
    """Records that the holder of the lease that ends at `lease` has forwarded it; the row is kept until `until`."""
    _locked(connection, name, message)
    values = {"handled": _FORWARDED if message.signed_id else _PLAIN, "until": int(until)}
    connection.execute(update(received).where(*_leased(name, message, lease)).values(values))
    if message.signed_id:
        later = case((received.c.until < int(until), int(until)), else_=received.c.until)
        covering = update(received).where(*_covered(name, message, _COVERS)).values(handled=_PLAIN, until=later)
        if not connection.execute(covering).rowcount:
            row = {"name": name, "request_id": message.request_id, "handled": _PLAIN, "until": int(until)}
            connection.execute(_INSERT.for_(connection), row)


def give_back(connection: Connection, name: str, message: Message, lease: int) -> None:
    """Deletes it, because it could not be forwarded: the sender's next attempt counts as the first."""
    _locked(connection, name, message)
    connection.execute(delete(received).where(*_leased(name, message, lease)))
    if message.signed_id:
        covering = _covered(name, message, {_COVERING})
        connection.execute(delete(received).where(*covering, received.c.until == lease))


def purge(connection: Connection, now: float) -> int:
    """Deletes expired rows, a batch at a time; returns how many."""
    key, is_over = (received.c.name, received.c.request_id), received.c.until <= int(now)
    over = select(*key).where(is_over).order_by(received.c.until).limit(_AT_ONCE).with_for_update(skip_locked=True)
    rows = [tuple(row) for row in connection.execute(over)]
    if rows:
        connection.execute(delete(received).where(is_one_of(key, rows)))
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
    return (*_of(name, message.key), received.c.handled == _LEASED, received.c.until == lease)


def _covered(name: str, message: Message, states: Collection[int]) -> tuple[ColumnElement[bool], ...]:
    return (*_of(name, message.request_id), received.c.handled.in_(states))
