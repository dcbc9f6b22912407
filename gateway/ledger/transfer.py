"""Ledgers as files: a backup of either engine is one SQLite file, and either engine can be filled from one.

Facts this file rests on:
- Everything is read in one snapshot: SQLite's of a reading transaction (WAL), PostgreSQL's at REPEATABLE READ.
  Neither keeps a gateway from writing meanwhile.
- A ledger is filled in one transaction, so it has all of the file or none of it.
- URLs that differ may name one ledger. On PostgreSQL no two have a place in common: no two servers started at the
  same microsecond, and a server's databases and tables have numbers of their own. Nothing has to be written for it.
- The identity, the beat and the least version belong to a ledger itself, not to what is in it. A filled ledger gets
  another identity, so that a running gateway reads all of its keys anew.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection, Table, create_engine, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from gateway.errors import LedgerUnavailable
from gateway.ledger.audit import record
from gateway.ledger.engine import is_postgres
from gateway.ledger.live_again import LiveAgain, ended_in, live_again
from gateway.ledger.migrate import Tables, migrate, require_version, tables_of
from gateway.ledger.schema import counters, metadata, replicas
from gateway.ledger.tables_place import Place, place_of_tables
from gateway.ledger.watchers import has_living
from gateway.units import moment

RowCounts = Mapping[str, int]
_AT_ONCE: Final = 1000
_LONGEST: Final = 600
_OF_KEYS: Final = "keys"
_IDENTITY: Final = "ledger"
_OF_ITS_OWN: Final = frozenset({"counters", "replicas"})  # a ledger that has no more is empty
_RECORDED: Final = 100
_IN_USE: Final = (
    "a gateway serves from it (its last heartbeat is less than 15 s old): stop all gateways first. "
    "--while-serving fills it all the same; what they count meanwhile is forgotten"
)
_NO_LEDGER: Final = "is neither a ledger nor a backup of one"


class FillRecord(NamedTuple):
    """Who fills a ledger, by which command and from what, for its audit record."""

    actor: str
    action: str
    source: str


class Permission(NamedTuple):
    """What filling a ledger may do: give up what is in it, and be done under a gateway that serves from it."""

    replace: bool = False
    fill_while_serving: bool = False


class Filled(NamedTuple):
    """What a ledger was filled with, and what had been ended in it and is live again."""

    counts: RowCounts
    live_again: LiveAgain


def counts_of(connection: Connection) -> RowCounts:
    """How many rows each table has."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in _tables()
    }


def content_of(counts: RowCounts) -> RowCounts:
    """The tables that have something in them which somebody could miss."""
    return {name: count for name, count in counts.items() if count and name not in _OF_ITS_OWN}


def save_sqlite(ledger: Path, target: Path) -> RowCounts:
    """Copies a SQLite ledger into a file that is empty; returns the rows of each table.

    Raises:
        LedgerUnavailable: the copy is not what the ledger is, or either can't be read or written.
    """
    try:
        with closing(_reading(ledger)) as source, closing(sqlite3.connect(target)) as copy:
            source.execute("BEGIN")
            before = _raw_counts(source)
            source.backup(copy)  # reads by the snapshot of the transaction
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            _require_equal(before, _raw_counts(copy))
            if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise LedgerUnavailable("the file is damaged")
            return before
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"it can't be copied: {error}") from None


def save(connection: Connection, target: Path) -> RowCounts:
    """Copies the ledger of a PostgreSQL transaction at REPEATABLE READ into a file that is empty.

    Raises:
        LedgerUnavailable: its tables are not those of this version, or the copy is not what it is.
    """
    require_version(connection)
    if tables_of(connection) is not Tables.OURS:
        raise LedgerUnavailable("it was made by a newer version of the gateway: copy it with that one")
    before = counts_of(connection)
    with _opened(target) as copy:
        migrate(copy)
        copy.execute(counters.delete())
        for table in _tables():
            _copy(connection, copy, table)
        _require_equal(before, counts_of(copy))
    return before


def require_elsewhere(connection: Connection, place: Place | None) -> None:
    """Checks that a transaction's ledger is not the one that has this place.

    Raises:
        LedgerUnavailable: it is.
    """
    if place is not None and place_of_tables(connection) == place:
        raise LedgerUnavailable("it is the ledger itself, by another name")


def fill(connection: Connection, file: Path, origin: FillRecord, now: float, may: Permission) -> Filled:
    """Fills the ledger of a writing transaction from a file with tables of this version, and records that.

    Heartbeats stay behind: they are of gateways that use the ledger which the file is of.

    Raises:
        LedgerUnavailable: it may not be filled, or the result is not what the file is.
    """
    _require_permission(connection, now, may)
    before = ended_in(connection, now)
    with _opened(file) as source:
        for table in _tables():
            if table is not counters:
                connection.execute(table.delete())
                _copy(source, connection, table)
        _count_on(source, connection)
        wanted = counts_of(source)
        _require_equal(_without_counters(wanted), _without_counters(counts_of(connection)))
    connection.execute(replicas.delete())
    filled = Filled(wanted, live_again(before, connection, now))
    _record(connection, origin, filled, now)
    return filled


def _require_permission(connection: Connection, now: float, may: Permission) -> None:
    if has_living(connection, now) and not may.fill_while_serving:
        raise LedgerUnavailable(_IN_USE)
    there = content_of(counts_of(connection))
    if there and not may.replace:
        told = ", ".join(f"{count} {name}" for name, count in there.items())
        raise LedgerUnavailable(f"it is not empty ({told}); --replace gives that up for what comes")


def bring_up(file: Path) -> str | None:
    """Migrates a SQLite ledger that nobody else uses; returns the former version if the tables changed.

    Raises:
        LedgerUnavailable: it is not a ledger, or is one of a newer version.
    """
    try:
        with _opened(file) as connection:
            if tables_of(connection) is Tables.NONE:
                raise LedgerUnavailable(_NO_LEDGER)
            return migrate(connection)
    except DatabaseError:
        raise LedgerUnavailable(_NO_LEDGER) from None


def is_in_use(file: Path, now: float) -> bool:
    """Whether a gateway served from the ledger that was saved there."""
    with _opened(file) as connection:
        return has_living(connection, now)


def described(lives: LiveAgain, most: int | None = None) -> Mapping[str, Any]:
    """What is live again: counts, and the first `most` of it by name, with their moments in ISO 8601."""
    which = [{**one._asdict(), "at": moment(one.at)} for one in lives.which[:most]]
    return {"secrets": lives.secrets, "keys": lives.keys, "callers": lives.callers, "which": which}


def _record(connection: Connection, origin: FillRecord, filled: Filled, now: float) -> None:
    detail = {"tables": content_of(filled.counts), "live_again": described(filled.live_again, _RECORDED)}
    subject = origin.source.encode(errors="replace").decode()[-_LONGEST:]
    record(connection, now, origin.actor, origin.action, subject, detail)


def _tables() -> list[Table]:
    return list(metadata.sorted_tables)


def _copy(source: Connection, target: Connection, table: Table) -> None:
    streamed = source.execution_options(stream_results=True, yield_per=_AT_ONCE)
    for rows in streamed.execute(select(table)).mappings().partitions(_AT_ONCE):
        target.execute(insert(table), [dict(row) for row in rows])
    _number_on(target, table)


def _number_on(target: Connection, table: Table) -> None:
    """PostgreSQL's sequence of ids goes on after the last one that was written."""
    column = table.autoincrement_column
    if not is_postgres(target) or column is None or column.name != "id":
        return
    last = target.execute(select(func.max(column))).scalar()
    if last is not None:
        target.execute(
            text("SELECT setval(pg_get_serial_sequence(:of, 'id'), :last)"), {"of": table.name, "last": last}
        )


def _count_on(source: Connection, target: Connection) -> None:
    """The number of the latest change of keys goes with the keys; the identity becomes another one."""
    number = source.execute(select(counters.c.value).where(counters.c.name == _OF_KEYS)).scalar()
    if number is not None:
        target.execute(update(counters).where(counters.c.name == _OF_KEYS).values(value=number))
    target.execute(update(counters).where(counters.c.name == _IDENTITY).values(value=counters.c.value + 1))


def _without_counters(counts: RowCounts) -> RowCounts:
    return {name: count for name, count in counts.items() if name != counters.name}


def _require_equal(before: RowCounts, after: RowCounts) -> None:
    differing = [name for name, count in before.items() if after.get(name) != count]
    if differing or before.keys() != after.keys():
        raise LedgerUnavailable(f"the copy differs in {', '.join(differing) or 'its tables'}: nothing was kept")


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def _raw_counts(connection: sqlite3.Connection) -> RowCounts:
    named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    names = sorted(name for (name,) in named if name != "alembic_version")
    if counters.name not in names:
        raise LedgerUnavailable(_NO_LEDGER)
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608 -- names of its tables


@contextmanager
def _opened(file: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.begin() as connection:
        yield connection
