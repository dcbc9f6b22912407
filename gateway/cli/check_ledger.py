"""What `gateway check` reports of the ledger: whether it can be read and written, or created, and its keys.

Creates nothing and migrates nothing: SQLite's file is only read; PostgreSQL is queried in a read-only transaction,
over a connection as the gateway makes it. No finding contains the URL's password.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import asyncpg

from gateway.config.ledger_url import url_of
from gateway.config.settings import SecretValue, Settings
from gateway.errors import LedgerUnavailable
from gateway.ledger.connecting import FAULTS, Connector, in_words
from gateway.ledger.migrate import LEAST_COUNTER, Tables, judge
from gateway.ledger.url import SQLITE, has_password, shown_url

_STEPS: Final = 3  # to connect, to look, and one retry for a busy server
_EMPTY: Final = "has no tables yet: the gateway makes them when it starts"
_HAS_TABLES: Final = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
_VERSION: Final = "SELECT version_num FROM alembic_version"
_KEYS: Final = "SELECT id, profile FROM keys ORDER BY id"
_MAY_WRITE: Final = (
    "SELECT bool_and(has_table_privilege('reservations', wanted)) "
    "FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted"
)
_LEAST: Final = f"SELECT value FROM counters WHERE name = '{LEAST_COUNTER}'"  # noqa: S608 -- a constant of ours
_NEWER: Final = "was made by a newer version of the gateway"
_OLDER: Final = "has tables of an older version: the gateway changes them when it starts; make a backup before"
_USABLE: Final = "has tables of a newer version, which this one can use"


class Looked(NamedTuple):
    """The result for a ledger: its name, what is well or what is wrong, and its keys' profiles by id."""

    name: str
    well: str = ""
    fault: str = ""
    profiles: tuple[tuple[str, str], ...] = ()


def ledger_warnings(settings: Settings, *, is_in_environment: bool) -> Iterator[str]:
    """Settings that may be unintended. A password is fine in a URL from the environment."""
    path = url_of(settings)
    if path.startswith(SQLITE) and not path.startswith(f"{SQLITE}/"):
        yield f"ledger.url: is relative: started here it is {shown_url(path)}, elsewhere another; write {SQLITE}/PATH"
    url = settings.ledger.url
    if isinstance(url, SecretValue) or url.startswith(SQLITE) or is_in_environment:
        return
    if has_password(url):
        yield "ledger.url: has a password in the file; write {env: NAME} or {file: /path} instead"


def look_at_ledger(settings: Settings) -> Looked:
    """Checks whether the ledger works, and reads its keys."""
    url, seconds = url_of(settings), settings.ledger.timeout
    if not url.startswith(SQLITE):
        return asyncio.run(_look_at_postgresql(settings))
    path = Path(url.removeprefix(SQLITE)).absolute()
    try:
        return _without_reading(path) or _read_file(path, seconds)
    except OSError as error:
        return Looked(str(path), fault=f"can't be looked at: {error.strerror}")


def _without_reading(path: Path) -> Looked | None:
    """The result as far as the directory shows it; None when the file must be read."""
    name = str(path)
    if not path.exists():
        why = why_not_made(path)
        if not why:
            return Looked(name, well="is not there yet: the gateway makes it when it starts")
        return Looked(name, fault=why)
    if not path.is_file():
        return Looked(name, fault="is not a file")
    if os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK):
        return None
    return Looked(name, fault="can't be written by this user, or its directory can't")


def why_not_made(path: Path) -> str:
    """Why what is not there could not be made; empty: it could, with the directories that it needs."""
    there = next(parent for parent in path.parents if parent.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"can't be made: {there} is not a directory that this user may write to"


def _read_file(path: Path, seconds: float) -> Looked:
    name = str(path)
    try:
        with closing(sqlite3.connect(f"file:{quote(name)}?mode=ro", seconds, uri=True)) as connection:
            if not connection.execute(_HAS_TABLES).fetchone():
                return Looked(name, well=_EMPTY)
            (version,) = connection.execute(_VERSION).fetchone() or (None,)
            (least,) = connection.execute(_LEAST).fetchone() or (None,)
            return _judged(name, judge(version, least), connection.execute(_KEYS).fetchall())
    except sqlite3.Error as error:  # SQLite's own messages: they hold no values of ours
        return Looked(name, fault=f"can't be read: {error}")


async def _look_at_postgresql(settings: Settings) -> Looked:
    url, seconds = url_of(settings), settings.ledger.timeout
    connector = Connector(lambda: url, seconds, behind_pooler=settings.ledger.pooler)
    name, connection = shown_url(url), None
    try:
        async with asyncio.timeout(seconds * _STEPS):
            connection = await connector.connect()
            async with connection.transaction(readonly=True):
                if connector.begin:
                    await connection.execute(connector.begin)
                return await _ask_postgresql(connection, name)
    except (LedgerUnavailable, *FAULTS) as error:
        return Looked(name, fault=f"can't be used: {in_words(error)}")
    finally:
        if connection is not None:
            connection.terminate()


async def _ask_postgresql(connection: asyncpg.Connection, name: str) -> Looked:
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        return Looked(name, fault="is a standby, which can't be written")
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        may_make = await connection.fetchval("SELECT has_schema_privilege(current_schema(), 'CREATE')")
        return Looked(name, well=_EMPTY) if may_make else Looked(name, fault="this user may make no tables there")
    version, least = await connection.fetchval(_VERSION), await connection.fetchval(_LEAST)
    if not await connection.fetchval(_MAY_WRITE):
        return Looked(name, fault="this user may not write it")
    return _judged(name, judge(version, least), [tuple(row) for row in await connection.fetch(_KEYS)])


def _judged(name: str, tables: Tables, profiles: list[tuple[str, str]]) -> Looked:
    count = f"{len(profiles)} key{'' if len(profiles) == 1 else 's'}"
    match tables:
        case Tables.NONE:
            return Looked(name, well=_EMPTY)
        case Tables.NEWER:
            return Looked(name, fault=_NEWER)
        case Tables.OLDER:
            well = f"{_OLDER}; {count}"
        case Tables.NEWER_AND_USABLE:
            well = f"{_USABLE}; {count}"
        case Tables.OURS:
            well = f"is there, with {count}"
    return Looked(name, well=well, profiles=tuple(profiles))
