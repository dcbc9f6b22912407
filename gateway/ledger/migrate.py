"""Brings a ledger to this version's schema, within the transaction of the connection that is given."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from gateway.errors import LedgerUnavailable

HEAD: Final = "0003"
_LOCK: Final = 0x6761_7465  # of PostgreSQL's advisory locks, for this alone: "gate"


def migrate(connection: Connection) -> None:
    """Makes or changes the tables; replicas that start together do it one after the other.

    SQLite's lock is the writing transaction itself.

    Raises:
        LedgerUnavailable: when a newer version has made the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    version = version_of(connection)
    if version == HEAD:
        return
    _upgrade(connection)


def require_version(connection: Connection) -> None:
    """For those who only read, and so can't migrate.

    Raises:
        LedgerUnavailable: when the tables are not those of this version.
    """
    if version_of(connection) != HEAD:
        raise LedgerUnavailable("its tables are not those of this version of the gateway")


def version_of(connection: Connection) -> str | None:
    """The version of the tables; None when there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Alembic takes 0.1 s to import, and a start that finds everything in place needs none of it.
    from alembic import command  # noqa: PLC0415 -- see above
    from alembic.config import Config  # noqa: PLC0415 -- see above
    from alembic.util import CommandError  # noqa: PLC0415 -- see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise LedgerUnavailable("it was made by a newer version of the gateway") from None
