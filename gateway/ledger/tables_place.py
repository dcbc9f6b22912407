"""Where a transaction's ledger is, and which one it is.

Facts this file rests on:
- Each ledger has a random number of its own; a copy of it, a standby and an older state of it have the same.
- A standby that takes over is a server of its own, which began at another time. It may lack the last changes, and
  what comes then has the revisions of these.
- A file that is put where another one was is another one: it has another inode.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select, text

from gateway.ledger.engine import is_postgres
from gateway.ledger.schema import counters
from gateway.ledger.statement import Statement, raw_of

Place = tuple[object, ...]
_NUMBER: Final = Statement(select(counters.c.value).where(counters.c.name == "ledger"))
_PLACE: Final = text("""
SELECT EXTRACT(EPOCH FROM pg_postmaster_start_time()), oid, CAST(to_regclass('counters') AS oid)
FROM pg_database WHERE datname = current_database()""")


def number_of(connection: Connection) -> int:
    """The random number that identifies this ledger."""
    return int(_NUMBER.first(connection).value)


def place_of_tables(connection: Connection) -> Place | None:
    """Where a transaction's ledger is on PostgreSQL, whatever its server is called; None on SQLite."""
    return tuple(connection.execute(_PLACE).one()) if is_postgres(connection) else None


def identity_of(connection: Connection) -> Place:
    """Differs if another ledger is there, or perhaps another state of the same one."""
    return number_of(connection), *(place_of_tables(connection) or _file(connection))


def _file(connection: Connection) -> Place:
    _, _, path = raw_of(connection).execute("PRAGMA database_list").fetchone()
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino
