"""The tables: made and changed by migrations, the same on both engines, private on disk."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, text
from sqlalchemy.exc import IntegrityError

import gateway.ledger
from gateway.errors import LedgerUnavailable
from gateway.ledger.audit import has_untold, recorded
from gateway.ledger.engine import Engine
from gateway.ledger.indexes import metadata
from gateway.ledger.migrate import HEAD, version_of
from gateway.ledger.schema import DeliveryState, deliveries
from gateway.model.audit import Entry
from tests.support.ledgers import Postgres, Script, beat, beats, open_engine, rows_of

WHO_WAIT_FOR_WEBHOOKS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'deliveries'::regclass"
SCRIPTS = Path(gateway.ledger.__file__).parent / "migrations"
STARTS = """
import asyncio, sys
import alembic.command
from tests.support.ledgers import beat, open_engine

async def main():
    engine = open_engine(sys.argv[1], 10.0)
    print("ready")
    sys.stdin.readline()
    await engine.write(beat)
    await engine.close()
    print("done")

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where nothing is yet: what is done to tables here no other test should find."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger/ledger.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.database()
    yield server.url_of(name)
    server.drop(name)


def config_on(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    return config


def test_the_head_that_the_code_knows_is_the_one_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_the_migrations_make_the_tables_that_the_code_knows(engine: Engine) -> None:
    def differences(connection: Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    assert await engine.write(differences) == []
    assert await engine.write(version_of) == HEAD


async def test_the_order_of_keys_is_that_of_the_code(engine: Engine) -> None:
    def keys(connection: Connection) -> dict[str, list[str]]:
        return {name: inspect(connection).get_pk_constraint(name)["constrained_columns"] for name in metadata.tables}

    assert await engine.write(keys) == {
        name: [column.name for column in table.primary_key.columns] for name, table in metadata.tables.items()
    }


async def test_a_downgrade_leaves_nothing_and_an_upgrade_makes_it_again(engine: Engine, ledger_url: str) -> None:
    await engine.write(lambda c: command.downgrade(config_on(c), "base"))
    assert await engine.write(lambda c: inspect(c).get_table_names()) == ["alembic_version"]
    await engine.close()
    again = open_engine(ledger_url)
    assert await again.write(beat) == 1
    await again.close()


async def test_what_was_recorded_before_stays_and_is_not_told_again(engine: Engine) -> None:
    def before(connection: Connection) -> None:
        command.downgrade(config_on(connection), "0002")
        row = "(1, 'cli:op', 'key.create', 'ci', '{}')"
        connection.execute(text(f"INSERT INTO audit (at, actor, action, subject, detail) VALUES {row}"))  # noqa: S608 -- ours
        command.upgrade(config_on(connection), "head")

    await engine.write(before)
    (found,) = await engine.read(recorded)
    assert found.entry == Entry(1, "cli:op", "key.create", "ci", {})
    assert not await engine.read(has_untold)


def add_delivery(connection: Connection, name: str, created_at: int) -> None:
    row = {
        "id": name, "upstream": "u", "request_id": "job", "owner": "o", "url": "https://h.test/", "destination": "d",
        "state": int(DeliveryState.DUE), "attempts": 3, "next_at": 9, "created_at": created_at,
    }  # fmt: skip
    connection.execute(insert(deliveries), row)


async def test_webhooks_stay_when_an_id_may_have_several_and_the_latest_when_it_may_not(engine: Engine) -> None:
    def work(connection: Connection) -> list[list[str]]:
        config, found = config_on(connection), list[list[str]]()
        command.downgrade(config, "0008")
        add_delivery(connection, "b", 1)
        with pytest.raises(IntegrityError), connection.begin_nested():
            add_delivery(connection, "a", 1)
        command.upgrade(config, "head")
        add_delivery(connection, "a", 1)
        add_delivery(connection, "c", 0)
        found.append(sorted(row["id"] for row in rows_of(connection, deliveries)))
        command.downgrade(config, "0008")
        found.append([row["id"] for row in rows_of(connection, deliveries)])
        command.upgrade(config, "head")
        assert all("WHERE" in index for index in partial_indexes(connection))
        return found

    assert await engine.write(work) == [["a", "b", "c"], ["b"]]


def partial_indexes(connection: Connection) -> list[str]:
    """How the indexes of webhooks that hold only some of them are made."""
    views = {"sqlite": ("sql", "sqlite_master", "name"), "postgresql": ("indexdef", "pg_indexes", "indexname")}
    words, view, name = views[connection.dialect.name]
    named = f"{name} IN ('ix_deliveries_next_at', 'uq_deliveries_waiting')"
    found = list(connection.execute(text(f"SELECT {words} FROM {view} WHERE {named}")).scalars())  # noqa: S608 -- ours
    assert len(found) == len({*found}) == 2
    return found


async def test_a_claim_that_has_read_goes_on_while_the_indexes_of_webhooks_wait(postgres: Postgres) -> None:
    name = postgres.database()
    url = postgres.url_of(name)
    before = open_engine(url)
    await before.write(lambda c: command.downgrade(config_on(c), "0012"))
    await before.close()
    claiming, watching = await asyncpg.connect(url), await asyncpg.connect(url)
    await claiming.execute("BEGIN; SELECT id FROM deliveries FOR UPDATE")
    after = open_engine(url)
    migrating = asyncio.ensure_future(after.read(version_of))
    async with asyncio.timeout(20):
        while not await watching.fetchval(WHO_WAIT_FOR_WEBHOOKS):  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.01)
    await claiming.execute("UPDATE deliveries SET status = NULL; COMMIT")
    assert await migrating == HEAD
    for connection in (claiming, watching, after):
        await connection.close()
    postgres.drop(name)


async def test_a_ledger_of_a_newer_version_is_left_alone(engine: Engine, ledger_url: str) -> None:
    await engine.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await engine.write(lambda c: c.execute(text("UPDATE counters SET value = 9999 WHERE name = 'least'")))
    await engine.close()
    older = open_engine(ledger_url)
    for _ in range(2):  # refused once and for all, not only at the first look
        with pytest.raises(LedgerUnavailable, match="made by a newer version of the gateway"):
            await older.write(beat)
        with pytest.raises(LedgerUnavailable, match="version of the gateway"):
            await older.read(beats)
    await older.close()


async def test_what_was_lost_with_the_database_is_made_again(engine: Engine) -> None:
    await engine.write(beat)

    def drop(connection: Connection) -> None:
        command.downgrade(config_on(connection), "base")
        connection.execute(text("DROP TABLE alembic_version"))

    await engine.write(drop)
    with pytest.raises(LedgerUnavailable):
        await engine.write(beat)
    assert await engine.write(beat) == 1


@pytest.mark.parametrize("turn", range(4))
def test_processes_that_start_at_once_on_nothing_all_succeed(tmp_path: Path, turn: int) -> None:
    del turn
    assert_all_start(f"sqlite:///{tmp_path}/new/ledger.db")


def test_replicas_that_start_at_once_on_nothing_all_succeed(postgres: Postgres) -> None:
    name = postgres.database()
    assert_all_start(postgres.url_of(name))
    postgres.drop(name)


def assert_all_start(url: str) -> None:
    starting = [Script(STARTS, url) for _ in range(3)]
    for script in starting:
        assert script.line() == "ready"
    for script in starting:
        script.tell()
    assert [script.rest() for script in starting] == [["done"]] * len(starting)
    for script in starting:
        script.__exit__(None, None, None)

    async def count() -> int:
        engine = open_engine(url)
        found = await engine.write(beats)
        await engine.close()
        return found

    assert asyncio.run(count()) == len(starting)


async def test_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    before = os.umask(0)
    try:
        engine = open_engine(f"sqlite:///{directory}/ledger.db")
        await engine.write(beat)
        await engine.read(beats)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    await engine.close()
