"""The keys of the ledger: created, rotated, revoked and read; each function is one transaction of a Connection.

Every change takes the next revision, under a lock on the counter. So revisions commit in their order, and a reader
that asks for the changes after the last one it saw misses none. It gets some at a time: each read is a transaction
with its own deadline, and what was read in one need not be read again after the next has failed. A key that changes
between two of them has a later revision then, and comes with that. While more is to come, the latest changes come
with each: a revocation behind a hundred thousand others does not wait for these.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, ScalarSelect, Select, and_, bindparam, func, insert, or_, select, update

from gateway.ledger.matching import can_be_stored, holds
from gateway.ledger.row_portions import in_portions, read_in_portions
from gateway.ledger.schema import counters, keys, secrets
from gateway.ledger.statement import Statement
from gateway.model.identity import is_override
from gateway.model.keys import Generation, KeyRecord

_COUNTER: Final = Statement(select(counters.c.value).where(counters.c.name == bindparam("named")))
_FIRST: Final = 1
_SOME: Final = 5000
"""Keys and secrets that are read at once: fifty milliseconds of work, a second of a loop that is very busy."""
_VALUES: Final = 1000  # in one statement
_LATEST: Final = 100  # keys that come before their turn, with no more secrets than _VALUES
_Value = TypeVar("_Value")


class KeyProblem(Exception):
    """Why a change of keys is refused: one sentence for the caller.

    `kind` is not_found, conflict (with existing data) or invalid. `path` names the one value that the fault is in, if
    there is one, such as `limits.pages_per_day`.
    """

    def __init__(self, message: str, kind: str = "conflict", path: str = "") -> None:
        self.kind = kind
        self.path = path
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class NewKeyRow:
    """A new key, without its secret. Times are seconds since the epoch."""

    id: str
    profile: str
    owner: str
    scopes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: Mapping[str, Any] | None = None
    expires_at: int | None = None


class RotatedKey(NamedTuple):
    """The result of a rotation. `was_done`: the operation was done before, so its secret is unknown.

    `previous_ends_at` is 0 if no secret was live any more.
    """

    generation: int
    previous_ends_at: int
    was_done: bool


class RevokedSecrets(NamedTuple):
    """Secrets that are ended, by their numbers; `was_at` is when the one that was named had been, if it had."""

    generations: list[int]
    was_at: int | None


def revision_of(connection: Connection) -> int:
    """The number of the latest change to keys."""
    return int(_COUNTER.first(connection, named="keys").value)


def number_of(connection: Connection) -> int:
    """The random number that identifies this ledger."""
    return int(_COUNTER.first(connection, named="ledger").value)


def changes_since(connection: Connection, revision: int) -> tuple[int, list[KeyRecord]]:
    """Some keys that have changed since a revision, and the one up to which these are all: at last the latest.

    Where these are not all, those that changed last are among them, and will come again.
    """
    latest = revision_of(connection)
    if latest == revision:
        return latest, []
    changed, cut = keys.c.revision > revision, _cut(connection, revision)
    if cut is None:
        return latest, _records(connection, changed)
    early = _latest(connection, cut)
    rows = _rows(connection, and_(changed, keys.c.revision <= cut))
    # By their ids: a key that changes before the next statement has no such revision any more, but secrets it has.
    of = [secrets.c.key_id.in_(some) for some in _slices([row.id for row in rows])]
    return cut, [*early, *_records_of(connection, rows, of)]


def all_keys(connection: Connection) -> list[KeyRecord]:
    """All keys, by id."""
    return _records(connection, keys.c.id.is_not(None))


def key_ids(connection: Connection) -> frozenset[str]:
    """The ids of all keys."""
    return frozenset(row.id for row in read_in_portions(connection, select(keys.c.id)))


def keys_page(
    connection: Connection,
    most: int,
    after: str | None = None,
    text: str | None = None,
    among: Collection[str] | None = None,
) -> list[KeyRecord]:
    """Keys by id, after one of them, with a text in their id, owner or profile; only these are read whole.

    `among`: only keys of these ids.
    """
    if not can_be_stored(after, text):
        return []
    query = select(keys.c.id).order_by(keys.c.id).limit(most)
    if after is not None:
        query = query.where(keys.c.id > after)
    if text:
        query = query.where(holds(text, keys.c.id, keys.c.owner, keys.c.profile))
    if among is not None:
        query = query.where(keys.c.id.in_(among))
    ids = list(connection.execute(query).scalars())
    found = {record.id: record for record in _records(connection, keys.c.id.in_(ids))} if ids else {}
    return [found[key_id] for key_id in ids]


def one_key(connection: Connection, key_id: str) -> KeyRecord:
    """Returns one key.

    Raises:
        KeyProblem: no key has this id.
    """
    found = _records(connection, keys.c.id == key_id)
    if not found:
        raise KeyProblem(f"there is no key {key_id} in the ledger", "not_found")
    return found[0]


def create(connection: Connection, new: NewKeyRow, digest: bytes, now: float) -> KeyRecord:
    """Creates a key with its first secret.

    Raises:
        KeyProblem: the id is taken.
    """
    revision = next_revision(connection)
    if connection.execute(select(keys.c.id).where(keys.c.id == new.id)).first() is not None:
        raise KeyProblem(f"there is a key {new.id} already; rotate it, or take another id", path="id")
    row = {
        "id": new.id, "profile": new.profile, "owner": new.owner, "scopes": json.dumps(new.scopes),
        "networks": json.dumps(new.networks), "limits": _limits_text(new.limits or {}), "created_at": int(now),
        "expires_at": new.expires_at, "revision": revision,
    }  # fmt: skip
    connection.execute(insert(keys), row)
    _add_secret(connection, new.id, _FIRST, digest, now)
    return one_key(connection, new.id)


def rotate(
    connection: Connection, key_id: str, digest: bytes, overlap: float, now: float, operation: str | None
) -> RotatedKey:
    """Adds a secret; the one in use ends after `overlap` seconds, all others at once.

    In use is the live secret that was used last, or the newest if none was used. So if a rotation's secret is lost,
    another rotation repairs that, and no client that still uses the former secret is cut off.

    Raises:
        KeyProblem: the key does not exist.
    """
    revision = next_revision(connection)
    record = one_key(connection, key_id)
    done = _by_operation(connection, key_id, operation)
    newest = max(generation.number for generation in record.generations)
    if done is not None:
        return RotatedKey(done, _end_before(record, done), was_done=True)
    ends = int(now + overlap)
    live = sorted((found.last_used_at or 0, found.number) for found in record.generations if found.is_live(now))
    for place, (_, number) in enumerate(reversed(live)):
        _set_secret(connection, key_id, number, not_after=int(now) if place else ends)
    _add_secret(connection, key_id, newest + 1, digest, now, operation)
    _touch(connection, key_id, revision)
    return RotatedKey(newest + 1, ends if live else 0, was_done=False)


def revoke(connection: Connection, key_id: str, generation: int | None, now: float, *, force: bool) -> RevokedSecrets:
    """Ends one secret, or all of a key. One that was revoked keeps its moment, and nothing changes.

    Raises:
        KeyProblem: key or generation does not exist, or no secret would stay live and `force` is not given.
    """
    record = lock_key(connection, key_id)
    live = [found.number for found in record.generations if found.is_live(now)]
    ending = live if generation is None else [_named(record, generation).number]
    before = None if generation is None else _named(record, generation).revoked_at
    if before is not None or not ending:
        return RevokedSecrets(ending, before)
    if live and not set(live) - set(ending) and not force:
        told = (
            f"that is the last live secret of {key_id}: nobody could use it any more; with force (--force) it is done"
        )
        raise KeyProblem(told, path="force")
    for number in ending:
        _set_secret(connection, key_id, number, revoked_at=int(now))
    _touch(connection, key_id, next_revision(connection))
    return RevokedSecrets(ending, None)


def lock_key(connection: Connection, key_id: str) -> KeyRecord:
    """Returns a key; until the end of the transaction, no other changes any key.

    Raises:
        KeyProblem: the key does not exist.
    """
    connection.execute(select(counters).where(counters.c.name == "keys").with_for_update())
    return one_key(connection, key_id)


def change_key(connection: Connection, key_id: str, **values: Any) -> KeyRecord:
    """Changes attributes of a key: profile, owner, scopes, networks, limits, expires_at, disabled_at.

    Raises:
        KeyProblem: the key does not exist.
    """
    revision = next_revision(connection)
    one_key(connection, key_id)
    texts: dict[str, Any] = {name: json.dumps(values[name]) for name in ("scopes", "networks") if name in values}
    if "limits" in values:
        texts["limits"] = _limits_text(values["limits"])
    connection.execute(update(keys).where(keys.c.id == key_id).values(**{**values, **texts}, revision=revision))
    return one_key(connection, key_id)


def note_used(connection: Connection, used: Mapping[tuple[str, int], float]) -> None:
    """Records when secrets were last used, by key and generation; an earlier time never replaces a later one."""
    statement = (
        update(secrets)
        .where(
            secrets.c.key_id == bindparam("of"),
            secrets.c.generation == bindparam("number"),
            or_(secrets.c.last_used_at.is_(None), secrets.c.last_used_at < bindparam("at")),
        )
        .values(last_used_at=bindparam("at"))
    )
    rows = [{"of": key_id, "number": number, "at": int(at)} for (key_id, number), at in sorted(used.items())]
    connection.execute(statement, rows)


def next_revision(connection: Connection) -> int:
    """Takes the next number of a change, under a lock on the counter."""
    connection.execute(update(counters).where(counters.c.name == "keys").values(value=counters.c.value + 1))
    return revision_of(connection)


def _named(record: KeyRecord, generation: int) -> Generation:
    found = next((found for found in record.generations if found.number == generation), None)
    if found is None:
        raise KeyProblem(f"key {record.id} has no generation {generation}", "not_found")
    return found


def _touch(connection: Connection, key_id: str, revision: int) -> None:
    connection.execute(update(keys).where(keys.c.id == key_id).values(revision=revision))


def _add_secret(
    connection: Connection, key_id: str, number: int, digest: bytes, now: float, operation: str | None = None
) -> None:
    row = {"key_id": key_id, "generation": number, "digest": digest, "created_at": int(now), "operation": operation}
    connection.execute(insert(secrets), row)


def _set_secret(connection: Connection, key_id: str, number: int, **values: Any) -> None:
    of = secrets.c.key_id == key_id, secrets.c.generation == number
    connection.execute(update(secrets).where(*of).values(**values))


def _by_operation(connection: Connection, key_id: str, operation: str | None) -> int | None:
    of = secrets.c.key_id == key_id, secrets.c.operation == operation
    return None if operation is None else connection.execute(select(secrets.c.generation).where(*of)).scalar()


def _end_before(record: KeyRecord, generation: int) -> int:
    ends = [found.not_after or found.revoked_at or 0 for found in record.generations if found.number < generation]
    return max(ends, default=0)


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
    return _records(connection, keys.c.id.in_(ids)) if ids else []


def _slices(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + _VALUES] for start in range(0, len(ids), _VALUES)]


def _rows(connection: Connection, condition: Any) -> list[Row[Any]]:
    return list(read_in_portions(connection, select(keys).where(condition)))


def _records(connection: Connection, condition: Any) -> list[KeyRecord]:
    of = secrets.c.key_id.in_(select(keys.c.id).where(condition))
    return _records_of(connection, _rows(connection, condition), [of])


def _records_of(connection: Connection, rows: list[Row[Any]], conditions: Iterable[Any]) -> list[KeyRecord]:
    """The records of these rows, whose secrets these conditions select."""
    generations: dict[str, list[Generation]] = {}
    for condition in conditions:
        for row in read_in_portions(connection, _secrets(condition)):
            generations.setdefault(row.key_id, []).append(_generation(row))
    columns = _Columns(cache(_scopes), cache(_networks), cache(_limits))
    records = [_record(row, generations.get(row.id, []), columns) for row in in_portions(connection, rows)]
    # Sorted here: with ORDER BY, SQLite would scan all keys in that order, not just the few that have changed.
    return sorted(records, key=attrgetter("id"))


def _secrets(condition: Any) -> Select[Any]:
    return select(secrets).where(condition).order_by(secrets.c.generation)


class _Columns(NamedTuple):
    """Readers of the columns of JSON. Ten thousand keys have a few texts between them: each is read once."""

    scopes: Callable[[str], tuple[str, ...]]
    networks: Callable[[str], tuple[IPv4Network | IPv6Network, ...]]
    limits: Callable[[str], Mapping[str, Any]]


def _record(row: Row[Any], generations: Iterable[Generation], columns: _Columns) -> KeyRecord:
    unreadable: list[str] = []
    return KeyRecord(
        id=row.id,
        profile=row.profile,
        owner=row.owner,
        created_at=row.created_at,
        revision=row.revision,
        scopes=_read(row, "scopes", columns.scopes, unreadable, ()),
        networks=_read(row, "networks", columns.networks, unreadable, ()),
        limits=_read(row, "limits", columns.limits, unreadable, {}),
        expires_at=row.expires_at,
        disabled_at=row.disabled_at,
        generations=tuple(generations),
        unreadable=tuple(unreadable),
    )


def _read(row: Row[Any], name: str, read: Callable[[str], _Value], unreadable: list[str], empty: _Value) -> _Value:
    """A column of JSON; a newer release may have written what this one does not know, and that stops no other key."""
    try:
        return read(getattr(row, name))
    except (ValueError, TypeError, AttributeError, RecursionError):
        unreadable.append(name)
        return empty


def _scopes(text: str) -> tuple[str, ...]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(scope, str) for scope in value):
        raise ValueError("no list of scopes")
    return tuple(value)


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(network) for network in _scopes(text))


def _limits(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    if not all(is_override(name, limit) for name, limit in value.items()):
        raise ValueError("another release's limits")
    return dict(value)


def _generation(row: Row[Any]) -> Generation:
    return Generation(
        row.generation, bytes(row.digest), row.created_at, row.not_after, row.revoked_at, row.last_used_at
    )


def _limits_text(limits: Mapping[str, Any]) -> str:
    return json.dumps(limits, sort_keys=True)
