"""The audit trail in the ledger.

A change and its record are one transaction, so that neither is there alone; such a record is `untold` until a gateway
has told its log of it. What gateways note themselves comes later, from memory.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from gateway.audit.entry import Action, Entry
from gateway.ledger.schema import audit, counters, jobs

_AT_ONCE: Final = 500
_INSERT: Final = insert(audit)
_BOUNDED: Final = (Action.READ, Action.REFUSED)
_OF_SECRETS: Final = (Action.SECRET_SET, Action.SECRET_REMOVED)


class FirstRead(NamedTuple):
    """A job was read: a record, if nobody has read it before."""

    entry: Entry
    upstream: str
    owner: str


class Recorded(NamedTuple):
    """A record as it stands in the ledger; `id` rises in the order of writing."""

    id: int
    entry: Entry


def record(
    connection: Connection, now: float, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Notes a change; `detail` never holds a secret. `now` is in seconds since the epoch."""
    connection.execute(_INSERT, {**_row(Entry(int(now), actor, action, subject, detail)), "untold": 1})


def append(connection: Connection, notes: Iterable[Entry | FirstRead]) -> list[Entry]:
    """Writes what a gateway has noted; those that became records."""
    entries = []
    for note in notes:
        if not isinstance(note, FirstRead):
            entries.append(note)
        elif _is_first(connection, note):
            entries.append(note.entry)
    if entries:
        connection.execute(_INSERT, [{**_row(entry), "untold": None} for entry in entries])
    return entries


def state_secrets(connection: Connection, declared: Mapping[str, str], actor: str, now: float) -> list[Entry]:
    """Notes which secrets are others than the last records say; `declared` has fingerprints by setting."""
    # Replicas that reload together note it once: whoever comes second waits here, and sees the first one's records.
    connection.execute(select(counters).where(counters.c.name == "ledger").with_for_update())
    last = _last_stated(connection)
    found = [
        Entry(int(now), actor, Action.SECRET_SET, subject, {"fingerprint": fingerprint})
        for subject, fingerprint in declared.items()
        if last.get(subject) != fingerprint
    ]
    gone = [subject for subject, fingerprint in last.items() if fingerprint is not None and subject not in declared]
    found += [Entry(int(now), actor, Action.SECRET_REMOVED, subject, {}) for subject in gone]
    append(connection, found)
    return found


def has_untold(connection: Connection) -> bool:
    """Whether there are changes that no log was told of."""
    return connection.execute(select(audit.c.id).where(audit.c.untold.is_not(None)).limit(1)).first() is not None


def take_untold(connection: Connection) -> list[Entry]:
    """Changes that no log was told of, some at once, in their order: whoever takes them tells of them."""
    query = select(audit).where(audit.c.untold.is_not(None)).order_by(audit.c.id).limit(_AT_ONCE)
    rows = list(connection.execute(query.with_for_update(skip_locked=True)))
    if rows:
        taken = update(audit).where(audit.c.id.in_([row.id for row in rows])).values(untold=None)
        connection.execute(taken)
    return [_recorded(row).entry for row in rows]


def recorded(
    connection: Connection,
    *,
    since: float = 0,
    of: str | None = None,
    changes_only: bool = False,
    most: int = 1000,
    before: int | None = None,
) -> list[Recorded]:
    """Records since a moment, the newest first; what concerns one key or owner, or all.

    `before` is the id that a list before ended with.
    """
    query = select(audit).where(audit.c.at >= int(since)).order_by(audit.c.id.desc()).limit(most)
    if of is not None:
        query = query.where(_concerns(of))
    if changes_only:
        query = query.where(audit.c.action.like("key.%"))
    if before is not None:
        query = query.where(audit.c.id < before)
    return list(map(_recorded, connection.execute(query)))


def purge(connection: Connection, before: float, most: int) -> int:
    """Removes what is older than a moment, and first reads and refusals past so many of each: how many, some at once.

    Changes go by their age alone: nobody but an administrator makes them, and no stranger pushes them out.
    """
    old = select(audit.c.id).where(audit.c.at < int(before)).order_by(audit.c.at).limit(_AT_ONCE)
    removed = _remove(connection, connection.execute(old).scalars().all())
    for action in _BOUNDED:
        of_action = select(audit.c.id).where(audit.c.action == action)
        newest_too_many = of_action.order_by(audit.c.id.desc()).offset(most).limit(1).scalar_subquery()
        surplus = of_action.where(audit.c.id <= newest_too_many).order_by(audit.c.id).limit(_AT_ONCE)
        removed += _remove(connection, connection.execute(surplus).scalars().all())
    return removed


def _remove(connection: Connection, ids: Sequence[int]) -> int:
    return connection.execute(delete(audit).where(audit.c.id.in_(ids))).rowcount if ids else 0


def _is_first(connection: Connection, read: FirstRead) -> bool:
    """Marks the job as read; one that is not there any more was read before it was deleted."""
    job = (
        (jobs.c.upstream == read.upstream) & (jobs.c.request_id == read.entry.subject) & (jobs.c.owner == read.owner)
    )
    marked = update(jobs).where(job, jobs.c.read_at.is_(None)).values(read_at=read.entry.at)
    return bool(connection.execute(marked).rowcount) or connection.execute(select(jobs).where(job)).first() is None


def _concerns(key: str) -> ColumnElement[bool]:
    """`key` is the id of a key, or the owner of a token or certificate."""
    of_key = (audit.c.subject == key) & audit.c.action.like("key.%")
    return or_(of_key, audit.c.subject == f"keys[{key}].secret", audit.c.actor.in_((key, f"key:{key}")))


def _last_stated(connection: Connection) -> dict[str, str | None]:
    latest = select(func.max(audit.c.id)).where(audit.c.action.in_(_OF_SECRETS)).group_by(audit.c.subject)
    rows = connection.execute(select(audit).where(audit.c.id.in_(latest)))
    return {row.subject: json.loads(row.detail).get("fingerprint") for row in rows}


def _row(entry: Entry) -> dict[str, Any]:
    return {**entry._asdict(), "detail": json.dumps(entry.detail)}


def _recorded(row: Row[Any]) -> Recorded:
    return Recorded(row.id, Entry(row.at, row.actor, row.action, row.subject, json.loads(row.detail)))
