"""Migrates a ledger to this version's schema, within the transaction of the given connection.

If a migration only adds, replicas of earlier versions can go on. So each change of the tables records the oldest
version that may use them, and a replica that finds tables newer than its own checks that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from gateway.errors import LedgerEmpty, LedgerUnavailable
from gateway.ledger.engine import is_postgres

HEAD: Final = "0014"
# The oldest version whose replicas can use the tables of HEAD. Raise it with a migration that removes or renames what
# they use, or that requires what they do not write.
LEAST: Final = "0003"
LEAST_COUNTER: Final = "least"  # the row of `counters` that has it
MIGRATION_SECONDS: Final = 300.0  # for all of it: an index on millions of rows, or 150 round trips to far away
_LOCK: Final = 0x6761_7465  # PostgreSQL's advisory lock for migrations: "gate"
_NEWER: Final = "it was made by a newer version of the gateway"
_OLDER: Final = (
    "its tables are of an older version: gateway ledger upgrade, or a start of this version, brings them up"
)


class Tables(Enum):
    """The tables of a ledger, as seen by this version."""

    NONE = auto()
    OLDER = auto()
    OURS = auto()
    NEWER = auto()
    NEWER_AND_USABLE = auto()


def _unheard(before: str) -> None:
    """Does nothing."""


def _unseen() -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What to do with the tables when a ledger is opened.

    `migrates`: whether to create and change them; read-only users leave them as they are. `changed` is called with
    the former version, empty if the tables were created; on the thread that did it. Where the ledger is far away that
    takes many seconds: a caller with `patience` waits that many seconds longer than its turn, and `waits` is called
    first.
    """

    migrates: bool = True
    changed: Callable[[str], None] = _unheard
    patience: float = 0.0
    waits: Callable[[], None] = _unseen

    def is_due(self, connection: Connection) -> bool:
        """Whether the tables have to be created or changed. Only reads.

        Raises:
            LedgerUnavailable: this version can't use the tables.
        """
        if not self.migrates:
            require_version(connection)
            return False
        tables = tables_of(connection)
        if tables is Tables.NEWER:
            raise LedgerUnavailable(_NEWER)
        return tables in {Tables.NONE, Tables.OLDER}

    def tend(self, connection: Connection, *, may_write: bool = True) -> str | None:
        """Does it within a transaction; returns the former version if the tables changed, to be passed to `changed`.

        Raises:
            LedgerUnavailable: this version can't use the tables.
        """
        if self.migrates and may_write:
            return migrate(connection)
        require_version(connection)
        return None


DEFAULT_UPKEEP: Final = Upkeep()


def judge(version: str | None, least: int | None) -> Tables:
    """Classifies tables by their version, and by the oldest version that may use them."""
    if version is None:
        return Tables.NONE
    if version == HEAD:
        return Tables.OURS
    if version.isascii() and version.isdigit() and int(version) < int(HEAD):
        return Tables.OLDER
    return Tables.NEWER_AND_USABLE if least is not None and least <= int(HEAD) else Tables.NEWER


def migrate(connection: Connection) -> str | None:
    """Creates or changes the tables; replicas that start together do it one after the other.

    On SQLite the writing transaction itself is the lock. Returns the former version if the tables changed; empty if
    they were created.

    Raises:
        LedgerUnavailable: a newer version has made the tables, and this one can't use them.
    """
    if is_postgres(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    match tables_of(connection):
        case Tables.OURS | Tables.NEWER_AND_USABLE:
            return None
        case Tables.NEWER:
            raise LedgerUnavailable(_NEWER)
        case Tables.NONE | Tables.OLDER:
            before = version_of(connection)
            _upgrade(connection)
            _write_least(connection)
            return before or ""


def require_version(connection: Connection) -> None:
    """Checks the tables for callers that only read, and so don't migrate.

    Raises:
        LedgerUnavailable: the tables are not those of this version.
        LedgerEmpty: the tables do not exist yet.
    """
    match tables_of(connection):
        case Tables.NONE:
            raise LedgerEmpty("it has no tables yet")
        case Tables.OLDER:
            raise LedgerUnavailable(_OLDER)
        case Tables.NEWER:
            raise LedgerUnavailable(_NEWER)


def tables_of(connection: Connection) -> Tables:
    """Classifies the tables by this version."""
    version = version_of(connection)
    tables = judge(version, None)
    if tables is not Tables.NEWER:
        return tables
    return judge(version, _least(connection))


def _least(connection: Connection) -> int | None:
    if not inspect(connection).has_table("counters"):
        return None
    found = connection.execute(text("SELECT value FROM counters WHERE name = :name"), {"name": LEAST_COUNTER})
    return found.scalar()


def _write_least(connection: Connection) -> None:
    connection.execute(text("DELETE FROM counters WHERE name = :name"), {"name": LEAST_COUNTER})
    row = {"name": LEAST_COUNTER, "value": int(LEAST)}
    connection.execute(text("INSERT INTO counters (name, value) VALUES (:name, :value)"), row)


def version_of(connection: Connection) -> str | None:
    """The version of the tables; None if they do not exist."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection) -> None:
    # Alembic takes 0.1 s to import, and a start that finds the tables up to date does not need it.
    from alembic import command  # noqa: PLC0415 -- see above
    from alembic.config import Config  # noqa: PLC0415 -- see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
