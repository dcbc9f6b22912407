"""What `gateway check` finds of the ledger: whether it can be read and written, or made, and whose keys are in it.

Nothing is made and nothing is migrated: SQLite's file is only read, PostgreSQL is asked in a transaction that may
only read. The URL's password is in no finding.
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

from gateway.ledger.migrate import HEAD
from gateway.ledgerurl import SQLITE, has_password, named, url_of
from gateway.settings import SecretValue, Settings

_EMPTY: Final = "has no tables yet: the gateway makes them when it starts"
_HAS_TABLES: Final = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
_VERSION: Final = "SELECT version_num FROM alembic_version"
_KEYS: Final = "SELECT id, profile FROM keys ORDER BY id"
_MAY_WRITE: Final = (
    "SELECT bool_and(has_table_privilege('reservations', wanted)) "
    "FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted"
)
_NEWER: Final = "was made by a newer version of the gateway"


class Looked(NamedTuple):
    """What a look at a ledger came to: its name, what is well or what is wrong, and its keys' profiles by id."""

    name: str
    well: str = ""
    fault: str = ""
    profiles: tuple[tuple[str, str], ...] = ()


def ledger_warnings(settings: Settings, *, is_in_environment: bool) -> Iterator[str]:
    """What may not be meant; a URL of the environment is where a password may be."""
    url = settings.ledger.url
    if isinstance(url, SecretValue) or url.startswith(SQLITE) or is_in_environment:
        return
    if has_password(url):
        yield "ledger.url: has a password in the file; write {env: NAME} or {file: /path} instead"


def look_at_ledger(settings: Settings) -> Looked:
    """Looks whether it works, and what is in it."""
    url, seconds = url_of(settings), settings.ledger.timeout
    if not url.startswith(SQLITE):
        return asyncio.run(_look_at_postgresql(url, seconds))
    path = Path(url.removeprefix(SQLITE)).absolute()
    try:
        return _without_reading(path) or _read_file(path, seconds)
    except OSError as error:
        return Looked(str(path), fault=f"can't be looked at: {error.strerror}")


def _without_reading(path: Path) -> Looked | None:
    """What the directory alone says of a file; None when it is to be read."""
    name = str(path)
    if not path.exists():
        there = next(parent for parent in path.parents if parent.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return Looked(name, well="is not there yet: the gateway makes it when it starts")
        return Looked(name, fault=f"can't be made: {there} is no directory that this user may write to")
    if not path.is_file():
        return Looked(name, fault="is no file")
    if os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK):
        return None
    return Looked(name, fault="can't be written by this user, or its directory can't")


def _read_file(path: Path, seconds: float) -> Looked:
    name = str(path)
    try:
        with closing(sqlite3.connect(f"file:{quote(name)}?mode=ro", seconds, uri=True)) as connection:
            if not connection.execute(_HAS_TABLES).fetchone():
                return Looked(name, well=_EMPTY)
            if connection.execute(_VERSION).fetchone() != (HEAD,):
                return Looked(name, fault=_NEWER)
            return _found(name, connection.execute(_KEYS).fetchall())
    except sqlite3.Error as error:  # whose messages are SQLite's own, and name nothing of ours
        return Looked(name, fault=f"can't be read: {error}")


async def _look_at_postgresql(url: str, seconds: float) -> Looked:
    name = named(url)
    try:
        connection = await asyncpg.connect(url, timeout=seconds, command_timeout=seconds)
    except (OSError, TimeoutError):
        return Looked(name, fault="does not answer")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        return Looked(name, fault=f"lets nobody in so: {type(error).__name__}")
    try:
        async with connection.transaction(readonly=True):
            return await _ask_postgresql(connection, name)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Looked(name, fault=f"can't be read: {type(error).__name__}")
    finally:
        await connection.close(timeout=seconds)


async def _ask_postgresql(connection: asyncpg.Connection, name: str) -> Looked:
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        return Looked(name, fault="is a standby, which can't be written")
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        may_make = await connection.fetchval("SELECT has_schema_privilege(current_schema(), 'CREATE')")
        return Looked(name, well=_EMPTY) if may_make else Looked(name, fault="this user may make no tables there")
    if await connection.fetchval(_VERSION) != HEAD:
        return Looked(name, fault=_NEWER)
    if not await connection.fetchval(_MAY_WRITE):
        return Looked(name, fault="this user may not write it")
    return _found(name, [tuple(row) for row in await connection.fetch(_KEYS)])


def _found(name: str, profiles: list[tuple[str, str]]) -> Looked:
    count = f"{len(profiles)} key{'' if len(profiles) == 1 else 's'}"
    return Looked(name, well=f"is there, with {count}", profiles=tuple(profiles))
