"""Changes of keys in their order: whoever follows them misses none.

Every change takes the next revision, under a lock on the counter. So revisions commit in their order, and a reader
that asks for the changes after the last one it saw misses none. It gets some at a time: each read is a transaction
with its own deadline, and what was read in one need not be read again after the next has failed. A key that changes
between two of them has a later revision then, and comes with that. While more is to come, the latest changes come
with each: a revocation behind a hundred thousand others does not wait for these.
"""

from typing import Final

from sqlalchemy import Connection, ScalarSelect, and_, func, select, update

from gateway.ledger.key_records import records_of, records_where, rows_where
from gateway.ledger.schema import counters, keys, secrets
from gateway.ledger.statement import Statement
from gateway.model.keys import KeyRecord

_REVISION: Final = Statement(select(counters.c.value).where(counters.c.name == "keys"))
_SOME: Final = 5000
"""Keys and secrets that are read at once: fifty milliseconds of work, a second of a loop that is very busy."""
_VALUES: Final = 1000  # in one statement
_LATEST: Final = 100  # keys that come before their turn, with no more secrets than _VALUES


def revision_of(connection: Connection) -> int:
    """The number of the latest change to keys."""
    return int(_REVISION.first(connection).value)


def next_revision(connection: Connection) -> int:
    """Takes the next number of a change, under a lock on the counter."""
    connection.execute(update(counters).where(counters.c.name == "keys").values(value=counters.c.value + 1))
    return revision_of(connection)


def changes_since(connection: Connection, revision: int) -> tuple[int, list[KeyRecord]]:
    """Some keys that have changed since a revision, and the one up to which these are all: at last the latest.

    Where these are not all, those that changed last are among them, and will come again.
    """
    latest = revision_of(connection)
    if latest == revision:
        return latest, []
    changed, cut = keys.c.revision > revision, _cut(connection, revision)
    if cut is None:
        return latest, records_where(connection, changed)
    early = _latest(connection, cut)
    rows = rows_where(connection, and_(changed, keys.c.revision <= cut))
    # By their ids: a key that changes before the next statement has no such revision any more, but secrets it has.
    of = [secrets.c.key_id.in_(some) for some in _slices([row.id for row in rows])]
    return cut, [*early, *records_of(connection, rows, of)]


def _cut(connection: Connection, revision: int) -> int | None:
    """Where a read of the keys behind a revision should end; None if all of them are few enough.

    The number of a key's newest secret is at least how many it has, and needs no count.
    """
    rows = func.sum(1 + func.coalesce(_newest(), 0)).over(order_by=keys.c.revision).label("rows")
    sums = select(keys.c.revision, rows).where(keys.c.revision > revision).subquery()
    query = select(sums.c.revision).where(sums.c.rows >= _SOME).order_by(sums.c.revision).limit(1)
    return connection.execute(query).scalar()


def _newest() -> ScalarSelect[int]:
    """The number of a key's newest secret."""
    return select(func.max(secrets.c.generation)).where(secrets.c.key_id == keys.c.id).scalar_subquery()


def _latest(connection: Connection, cut: int) -> list[KeyRecord]:
    """The keys behind `cut` that changed last."""
    query = select(keys.c.id, _newest().label("newest")).where(keys.c.revision > cut)
    ids, left = list[str](), _VALUES
    for row in connection.execute(query.order_by(keys.c.revision.desc()).limit(_LATEST)):
        if (row.newest or 0) <= left:  # one that does not fit keeps no other out
            ids.append(row.id)
            left -= row.newest or 0
    return records_where(connection, keys.c.id.in_(ids)) if ids else []


def _slices(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + _VALUES] for start in range(0, len(ids), _VALUES)]
