"""The keys of the ledger: made, rotated, revoked and read; each function is one transaction of a Connection.

Every change takes the next revision, under a lock on the counter, so that revisions are committed in their order and
a reader that asks for what came after the last one it saw misses none.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, insert, or_, select, update

from gateway.ledger.schema import counters, keys, secrets
from gateway.model.keys import Generation, KeyRecord

_REVISION: Final = select(counters.c.value).where(counters.c.name == "keys")
_NUMBER: Final = select(counters.c.value).where(counters.c.name == "ledger")
_FIRST: Final = 1


class KeyProblem(Exception):
    """Why a change of keys is refused: one sentence for whoever asked for it.

    `kind` is not_found, conflict (with what is there) or invalid.
    """

    def __init__(self, message: str, kind: str = "conflict") -> None:
        self.kind = kind
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class NewKeyRow:
    """What a key is made of, but for its secret. Times are seconds since the epoch."""

    id: str
    profile: str
    owner: str
    scopes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    limits: Mapping[str, Any] | None = None
    expires_at: int | None = None


class Rotation(NamedTuple):
    """What a rotation came to. `was_done` says that the operation had been done before: the secret is not known.

    `previous_ends_at` is 0 when no secret lived any more.
    """

    generation: int
    previous_ends_at: int
    was_done: bool


def revision_of(connection: Connection) -> int:
    """The number of the latest change to keys."""
    return int(connection.execute(_REVISION).scalar_one())


def number_of(connection: Connection) -> int:
    """The number that tells this ledger from any other."""
    return int(connection.execute(_NUMBER).scalar_one())


def changes_since(connection: Connection, revision: int) -> tuple[int, list[KeyRecord]]:
    """The latest revision, and the keys that have changed since an earlier one."""
    latest = revision_of(connection)
    return (latest, []) if latest == revision else (latest, _records(connection, keys.c.revision > revision))


def all_keys(connection: Connection) -> list[KeyRecord]:
    """All keys, by id."""
    return _records(connection, keys.c.id.is_not(None))


def one_key(connection: Connection, key_id: str) -> KeyRecord:
    """One key.

    Raises:
        KeyProblem: there is none with this id.
    """
    found = _records(connection, keys.c.id == key_id)
    if not found:
        raise KeyProblem(f"there is no key {key_id} in the ledger", "not_found")
    return found[0]


def create(connection: Connection, new: NewKeyRow, digest: bytes, now: float) -> KeyRecord:
    """Makes a key with its first secret.

    Raises:
        KeyProblem: the id is taken.
    """
    revision = _next_revision(connection)
    if connection.execute(select(keys.c.id).where(keys.c.id == new.id)).first() is not None:
        raise KeyProblem(f"there is a key {new.id} already; rotate it, or take another id")
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
) -> Rotation:
    """Adds a secret; the one that is in use ends after `overlap` seconds, any other at once.

    In use is the live one that was used last, the newest when none was: a rotation whose secret got lost is made good
    by another one, and nobody who still uses the secret of before is cut off.

    Raises:
        KeyProblem: there is no such key.
    """
    revision = _next_revision(connection)
    record = one_key(connection, key_id)
    done = _by_operation(connection, key_id, operation)
    newest = max(generation.number for generation in record.generations)
    if done is not None:
        return Rotation(done, _end_before(record, done), was_done=True)
    ends = int(now + overlap)
    live = sorted((found.last_used_at or 0, found.number) for found in record.generations if found.is_live(now))
    for place, (_, number) in enumerate(reversed(live)):
        _set_secret(connection, key_id, number, not_after=int(now) if place else ends)
    _add_secret(connection, key_id, newest + 1, digest, now, operation)
    _touch(connection, key_id, revision)
    return Rotation(newest + 1, ends if live else 0, was_done=False)


def revoke(connection: Connection, key_id: str, generation: int | None, now: float, *, force: bool) -> list[int]:
    """Ends one secret, or all of a key; which ones.

    Raises:
        KeyProblem: there is no such key or generation, or nothing would be left alive and `force` is not given.
    """
    revision = _next_revision(connection)
    record = one_key(connection, key_id)
    live = [found.number for found in record.generations if found.is_live(now)]
    if generation is not None and generation not in {found.number for found in record.generations}:
        raise KeyProblem(f"key {key_id} has no generation {generation}", "not_found")
    ending = live if generation is None else [generation]
    if live and not set(live) - set(ending) and not force:
        raise KeyProblem(
            f"that is the last live secret of {key_id}: nobody could use it any more; with force (--force) it is done"
        )
    for number in ending:
        _set_secret(connection, key_id, number, revoked_at=int(now))
    _touch(connection, key_id, revision)
    return ending


def change_key(connection: Connection, key_id: str, **values: Any) -> KeyRecord:
    """Changes what a key is: profile, owner, scopes, networks, limits, expires_at, disabled_at.

    Raises:
        KeyProblem: there is no such key.
    """
    revision = _next_revision(connection)
    one_key(connection, key_id)
    texts: dict[str, Any] = {name: json.dumps(values[name]) for name in ("scopes", "networks") if name in values}
    if "limits" in values:
        texts["limits"] = _limits_text(values["limits"])
    connection.execute(update(keys).where(keys.c.id == key_id).values(**{**values, **texts}, revision=revision))
    return one_key(connection, key_id)


def note_used(connection: Connection, used: Mapping[tuple[str, int], float]) -> None:
    """Notes when secrets were last used, by key and generation; an earlier note never replaces a later one."""
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


def _next_revision(connection: Connection) -> int:
    connection.execute(update(counters).where(counters.c.name == "keys").values(value=counters.c.value + 1))
    return revision_of(connection)


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


def _records(connection: Connection, condition: Any) -> list[KeyRecord]:
    # Ordered here: asked for an order, SQLite goes through all keys in it and not to the few that have changed.
    found = sorted(connection.execute(select(keys).where(condition)), key=attrgetter("id"))
    of = secrets.c.key_id.in_(select(keys.c.id).where(condition))
    generations: dict[str, list[Generation]] = {}
    for row in connection.execute(select(secrets).where(of).order_by(secrets.c.generation)):
        generations.setdefault(row.key_id, []).append(_generation(row))
    return [_record(row, generations.get(row.id, [])) for row in found]


def _record(row: Row[Any], generations: Iterable[Generation]) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        profile=row.profile,
        owner=row.owner,
        created_at=row.created_at,
        revision=row.revision,
        scopes=tuple(json.loads(row.scopes)),
        networks=tuple(ip_network(text) for text in json.loads(row.networks)),
        limits=json.loads(row.limits),
        expires_at=row.expires_at,
        disabled_at=row.disabled_at,
        generations=tuple(generations),
    )


def _generation(row: Row[Any]) -> Generation:
    return Generation(
        row.generation, bytes(row.digest), row.created_at, row.not_after, row.revoked_at, row.last_used_at
    )


def _limits_text(limits: Mapping[str, Any]) -> str:
    return json.dumps(limits, sort_keys=True)
