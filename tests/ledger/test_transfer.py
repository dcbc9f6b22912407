"""Ledgers as files: a copy has all of the ledger, and what fills one asks first and gives it another identity."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from gateway.errors import LedgerUnavailable
from gateway.ledger.audit import recorded
from gateway.ledger.callers import block
from gateway.ledger.engine import Engine, is_postgres
from gateway.ledger.key_records import all_keys, key_ids
from gateway.ledger.key_revisions import next_revision, revision_of
from gateway.ledger.live_again import LiveAgain, Revived
from gateway.ledger.migrate import HEAD
from gateway.ledger.schema import metadata, replicas
from gateway.ledger.tables_place import number_of, place_of_tables
from gateway.ledger.transfer import (
    FillRecord,
    Permission,
    bring_up,
    content_of,
    counts_of,
    described,
    fill,
    is_in_use,
    require_elsewhere,
    save,
    save_sqlite,
)
from gateway.ledger.watchers import beat, has_living
from tests.ledger.test_migrate import config_on
from tests.support.ledgerkeys import make
from tests.support.ledgers import NOON, open_engine, rows_of, write_sqlite_ledger

ORIGIN = FillRecord("cli:op", "ledger.restore", "/backups/of.db")


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A backup of a ledger with two keys, whose gateway still serves from it; it began with four other changes."""
    path, target = tmp_path / "of.db", tmp_path / "backup.db"
    engine = open_engine(f"sqlite:///{path}")
    for _ in range(4):
        await engine.write(next_revision)
    for name in ("a", "b"):
        await make(engine, name)
    await engine.write(lambda c: beat(c, "serving", NOON, NOON + 15))
    await engine.close()
    save_sqlite(path, target)
    return target


async def filled(engine: Engine, file: Path, *, replace: bool = False, serving: bool = False) -> Any:
    return await engine.write(lambda c: fill(c, file, ORIGIN, NOON, Permission(replace, serving)))


def in_file(path: Path, work: Callable[[sqlite3.Connection], Any]) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        result = work(connection)
        connection.commit()
    return result


def forbid_nulls(connection: sqlite3.Connection) -> None:
    """Damages a file whose keys have no end: their column says that there is none without."""
    connection.execute("PRAGMA writable_schema = 1")
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'keys'").fetchone()
    changed = sql.replace("expires_at BIGINT", "expires_at BIGINT NOT NULL")
    assert changed != sql
    connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'keys'", [changed])


async def test_a_filled_ledger_is_the_file_but_for_what_is_its_own(engine: Engine, file: Path) -> None:
    number = await engine.read(number_of)
    found = await filled(engine, file)
    assert await engine.read(key_ids) == {"a", "b"}
    assert await engine.read(revision_of) == 6  # who follows the keys misses no change
    assert await engine.read(number_of) != number  # and reads all of them anew
    assert await engine.read(lambda c: rows_of(c, replicas)) == []
    assert content_of(found.counts) == {"keys": 2, "secrets": 2}
    assert found.live_again == LiveAgain(0, 0, 0)


async def test_who_filled_it_is_in_its_audit_with_what_is_live_again(engine: Engine, file: Path) -> None:
    await engine.write(lambda c: block(c, "cert:bad", NOON - 60))
    origin = FillRecord("cli:op", "ledger.restore", "/x" * 400 + "/\udcff.db")
    found = await engine.write(lambda c: fill(c, file, origin, NOON, Permission(replace=True)))
    assert found.live_again.which == (Revived("caller", "cert:bad", None, "blocked", int(NOON) - 60),)
    (row,) = await engine.read(recorded)
    assert (row.entry.at, row.entry.actor, row.entry.action) == (int(NOON), "cli:op", "ledger.restore")
    assert row.entry.subject == ("/x" * 400 + "/?.db")[-600:]
    assert row.entry.detail == {"tables": {"keys": 2, "secrets": 2}, "live_again": described(found.live_again)}


async def test_what_is_there_is_given_up_only_with_permission(engine: Engine, file: Path) -> None:
    await make(engine, "mine")
    for serving in (False, True):
        with pytest.raises(LedgerUnavailable, match=r"not empty \(1 keys, 1 secrets\); --replace gives that up"):
            await filled(engine, file, serving=serving)
    assert await engine.read(key_ids) == {"mine"}
    await filled(engine, file, replace=True)
    assert await engine.read(key_ids) == {"a", "b"}


async def test_a_ledger_with_a_gateway_is_filled_only_with_permission(engine: Engine, file: Path) -> None:
    await engine.write(lambda c: beat(c, "serving", NOON, NOON + 1))
    for replace in (False, True):
        with pytest.raises(LedgerUnavailable, match="a gateway serves from it"):
            await filled(engine, file, replace=replace)
    assert await engine.read(lambda c: has_living(c, NOON))
    await filled(engine, file, serving=True)
    assert await engine.read(key_ids) == {"a", "b"}


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_a_ledger_that_does_not_take_all_of_it_is_as_it_was(engine: Engine, file: Path) -> None:
    lose = "CREATE TRIGGER lose AFTER INSERT ON keys BEGIN DELETE FROM keys WHERE id = 'b'; END"
    await make(engine, "mine")
    await engine.write(lambda c: c.execute(text(lose)))
    before = await engine.read(lambda c: (all_keys(c), number_of(c), revision_of(c)))
    with pytest.raises(LedgerUnavailable, match="the copy differs in keys: nothing was kept"):
        await filled(engine, file, replace=True)
    assert await engine.read(lambda c: (all_keys(c), number_of(c), revision_of(c))) == before
    assert await engine.read(recorded) == []


async def test_a_saved_ledger_has_every_row(engine: Engine, file: Path, tmp_path: Path) -> None:
    await filled(engine, file)
    target = tmp_path / "target.db"
    told = await engine.write(lambda c: save(c, target))
    assert told == await engine.read(counts_of)
    assert told.keys() == metadata.tables.keys()
    assert told["counters"] > 0
    other = open_engine(f"sqlite:///{target}")
    assert await other.write(all_keys) == await engine.read(all_keys)
    for of in (revision_of, number_of):
        assert await other.write(of) == await engine.read(of)
    await other.close()


async def test_tables_of_a_newer_version_are_not_saved(engine: Engine, tmp_path: Path) -> None:
    """This version does not know all of them: the copy would lack some."""

    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        save(connection, tmp_path / "target.db")

    with pytest.raises(LedgerUnavailable, match="by a newer version of the gateway: copy it with that one"):
        await engine.write(work)
    assert not (tmp_path / "target.db").exists()


def test_a_copied_file_needs_no_log_and_the_ledger_is_only_read(file: Path, tmp_path: Path) -> None:
    ledger, before = tmp_path / "of.db", (tmp_path / "of.db").read_bytes()
    save_sqlite(ledger, tmp_path / "again.db")
    assert in_file(ledger, lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    assert in_file(file, lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("delete",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.db", "backup.db", "of.db"]
    assert ledger.read_bytes() == before


def test_a_file_that_is_no_ledger_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no ledger at all, and longer than the head of one")
    in_file(tmp_path / "sql.db", lambda c: c.execute("CREATE TABLE x (y)"))
    for name, told in (
        ("text", "it can't be copied: file is not a database"),
        ("sql", "is neither a ledger nor a backup"),
        ("none", "it can't be copied: unable to open"),
    ):
        with pytest.raises(LedgerUnavailable, match=told):
            save_sqlite(tmp_path / f"{name}.db", tmp_path / "target.db")
    assert not (tmp_path / "none.db").exists()


def test_a_damaged_ledger_is_no_backup(file: Path, tmp_path: Path) -> None:
    in_file(file, forbid_nulls)
    with pytest.raises(LedgerUnavailable, match="the file is damaged"):
        save_sqlite(file, tmp_path / "target.db")


async def test_a_ledger_is_told_from_another_by_its_place(engine: Engine) -> None:
    place = await engine.read(place_of_tables)
    await engine.read(lambda c: require_elsewhere(c, None))
    await engine.read(lambda c: require_elsewhere(c, ("elsewhere", *(place or ()))))
    if await engine.read(is_postgres):
        with pytest.raises(LedgerUnavailable, match="it is the ledger itself, by another name"):
            await engine.read(lambda c: require_elsewhere(c, place))


def test_an_older_backup_is_brought_up_once(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    write_sqlite_ledger(path)
    with create_engine(f"sqlite:///{path}", poolclass=NullPool).begin() as connection:
        command.downgrade(config_on(connection), "0004")
    assert bring_up(path) == "0004"
    assert in_file(path, lambda c: c.execute("SELECT version_num FROM alembic_version").fetchone()) == (HEAD,)
    assert bring_up(path) is None


def test_only_a_ledger_is_brought_up(tmp_path: Path) -> None:
    in_file(tmp_path / "sql.db", lambda c: c.execute("CREATE TABLE x (y)"))
    (tmp_path / "text.db").write_text("no ledger at all, and longer than the head of one")
    before = (tmp_path / "sql.db").read_bytes()
    for name in ("sql.db", "text.db"):
        with pytest.raises(LedgerUnavailable, match="is neither a ledger nor a backup"):
            bring_up(tmp_path / name)
    assert (tmp_path / "sql.db").read_bytes() == before  # it was given no tables


@pytest.mark.parametrize(("at", "is_used"), [(NOON + 14, True), (NOON + 15, False)])
def test_a_backup_says_whether_a_gateway_served_from_the_ledger(file: Path, at: float, is_used: bool) -> None:
    assert is_in_use(file, at) is is_used


def test_of_much_that_is_live_again_all_is_counted_and_the_first_named() -> None:
    which = tuple(Revived("key", name, None, "disabled", 2) for name in "abc")
    told = described(LiveAgain(0, 3, 0, which), 2)
    assert (told["secrets"], told["keys"], told["callers"]) == (0, 3, 0)
    assert [one["name"] for one in told["which"]] == ["a", "b"]
    assert told["which"][0]["at"] == "1970-01-01T00:00:02Z"
    assert len(described(LiveAgain(0, 3, 0, which))["which"]) == 3


def test_nobody_misses_what_every_ledger_has() -> None:
    assert content_of({"keys": 2, "audit": 0, "counters": 4, "replicas": 1}) == {"keys": 2}
