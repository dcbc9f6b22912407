"""The keys of the ledger: created, rotated, revoked, changed; each function is one transaction of a Connection.

Every change takes the next revision (key_revisions.py). A rotation that has a name is done once (idempotency).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from gateway.ledger.key_records import records_where
from gateway.ledger.key_revisions import next_revision
from gateway.ledger.schema import counters, keys, secrets
from gateway.model.keys import Generation, KeyRecord

_FIRST: Final = 1


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


def one_key(connection: Connection, key_id: str) -> KeyRecord:
    """Returns one key.

    Raises:
        KeyProblem: no key has this id.
    """
    found = records_where(connection, keys.c.id == key_id)
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
    """The generation that a rotation of this name has made already (its idempotency key); None: there is none."""
    of = secrets.c.key_id == key_id, secrets.c.operation == operation
    return None if operation is None else connection.execute(select(secrets.c.generation).where(*of)).scalar()


def _end_before(record: KeyRecord, generation: int) -> int:
    ends = [found.not_after or found.revoked_at or 0 for found in record.generations if found.number < generation]
    return max(ends, default=0)


def _limits_text(limits: Mapping[str, Any]) -> str:
    return json.dumps(limits, sort_keys=True)
