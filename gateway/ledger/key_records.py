"""Keys as they are read: records of their rows and those of their secrets, by id.

A column that this version can't read is named in its key's record, and is empty there.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Select, select

from gateway.ledger.matching import can_be_stored, holds
from gateway.ledger.row_portions import in_portions, read_in_portions
from gateway.ledger.schema import keys, secrets
from gateway.model.identity import is_override
from gateway.model.keys import Generation, KeyRecord

_Value = TypeVar("_Value")


def all_keys(connection: Connection) -> list[KeyRecord]:
    """All keys, by id."""
    return records_where(connection, keys.c.id.is_not(None))


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
    """A page of keys by id (pagination), with a text in their id, owner or profile; only these are read whole.

    `after`: the last id of the page before. `among`: only keys of these ids.
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
    found = {record.id: record for record in records_where(connection, keys.c.id.in_(ids))} if ids else {}
    return [found[key_id] for key_id in ids]


def rows_where(connection: Connection, condition: Any) -> list[Row[Any]]:
    """The rows of the keys that a condition selects, without their secrets."""
    return list(read_in_portions(connection, select(keys).where(condition)))


def records_where(connection: Connection, condition: Any) -> list[KeyRecord]:
    """The keys that a condition selects, by id."""
    of = secrets.c.key_id.in_(select(keys.c.id).where(condition))
    return records_of(connection, rows_where(connection, condition), [of])


def records_of(connection: Connection, rows: list[Row[Any]], conditions: Iterable[Any]) -> list[KeyRecord]:
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
