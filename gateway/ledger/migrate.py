"""Brings a ledger to this version's schema, within the transaction of the connection that is given.

A migration that only adds lets the replicas of the versions before go on: whoever changes the tables writes down the
oldest version that may use them, and a replica that finds tables newer than its own looks for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from gateway.errors import LedgerEmpty, LedgerUnavailable

HEAD: Final = "0006"
# The oldest version whose replicas may go on beside the tables of HEAD. Raise it with a migration that takes away or
# renames what they use, or demands what they do not write.
LEAST: Final = "0003"
LEAST_COUNTER: Final = "least"  # the row of `counters` that has it
_LOCK: Final = 0x6761_7465  # of PostgreSQL's advisory locks, for this alone: "gate"
_NEWER: Final = "it was made by a newer version of the gateway"
_OLDER: Final = "its tables are of an older version: `gateway serve`, or any command that changes it, brings them up"


class Tables(Enum):
    """What the tables of a ledger are to this version."""

    NONE = auto()
    OLDER = auto()
    OURS = auto()
    NEWER = auto()
    NEWER_AND_USABLE = auto()


def _unheard(before: str) -> None:
    """Nobody asked to be told."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What is done to the tables when a ledger is opened.

    `migrates`: whether they are made and changed; who only looks leaves them as they are. `changed` is told the
    version that was there before, empty when they were made; on whatever thread did it.
    """

    migrates: bool = True
    changed: Callable[[str], None] = _unheard

    def tend(self, connection: Connection, *, may_write: bool = True) -> str | None:
        """Does it, within a transaction. The version before, when they were changed: tell `changed` once it is over.

        Raises:
            LedgerUnavailable: this version can't use them.
        """
        if self.migrates and may_write:
            return migrate(connection)
        require_version(connection)
        return None


DEFAULT_UPKEEP: Final = Upkeep()


def judge(version: str | None, least: int | None) -> Tables:
    """Says what tables are by their version, and by the oldest that may use them."""
    if version is None:
        return Tables.NONE
    if version == HEAD:
        return Tables.OURS
    if version.isascii() and version.isdigit() and int(version) < int(HEAD):
        return Tables.OLDER
    return Tables.NEWER_AND_USABLE if least is not None and least <= int(HEAD) else Tables.NEWER


def migrate(connection: Connection) -> str | None:
    """Makes or changes the tables; replicas that start together do it one after the other.

    SQLite's lock is the writing transaction itself. The version that was there before, when they were changed; empty
    when they were made.

    Raises:
        LedgerUnavailable: when a newer version has made the tables, and this one can't use them.
    """
    if connection.dialect.name == "postgresql":
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
    """For those who only look, and so don't migrate.

    Raises:
        LedgerUnavailable: when the tables are not those of this version.
        LedgerEmpty: when there are none.
    """
    match tables_of(connection):
        case Tables.NONE:
            raise LedgerEmpty("it has no tables yet")
        case Tables.OLDER:
            raise LedgerUnavailable(_OLDER)
        case Tables.NEWER:
            raise LedgerUnavailable(_NEWER)


def tables_of(connection: Connection) -> Tables:
    """What the tables are to this version."""
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
    """The version of the tables; None when there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection) -> None:
    # Alembic takes 0.1 s to import, and a start that finds everything in place needs none of it.
    from alembic import command  # noqa: PLC0415 -- see above
    from alembic.config import Config  # noqa: PLC0415 -- see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
