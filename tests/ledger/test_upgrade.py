"""A ledger that an earlier version wrote, whose tables were those of migration 0006: all that is in it lives on.

before.sql is what that version's demo left: a key with a budget, a grant and two secrets in use, one disabled, one
revoked, three jobs, of which one has a webhook that is due. Nothing of it was written by this version.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, text

from gateway.cli.main import cli
from gateway.ledger.migrate import HEAD, version_of
from tests.support.gateway import ENVIRON, Start, request
from tests.support.ledgers import open_engine
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

BEFORE: Final = Path(__file__).with_name("before.sql")
SECRETS: Final = (
    "dgw_acme_v0JJfQtoWpoV9Hen-ON8xrKl5gE2lXmIFWJgc1R4xl419qlj3",
    "dgw_acme_3d06EyDNJJaOFC0xCbG0Z0SvwyG1yHWnm6PZf-mTJqo0YDpS5",
)
OWN: Final = {"alembic_version", "counters", "replicas"}  # of the ledger itself, not of whom it serves
Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The ledger as that version left it."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(BEFORE.read_text())
    path.chmod(0o600)
    return path


def run(directory: Path, url: str, *words: str) -> str:
    config = write(directory, document(directory, ledger={"url": url}))
    result = CliRunner().invoke(cli, [*words, "--config", str(config)])
    assert result.exit_code == 0, result.output
    return result.stdout


def columns_of(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for name in names
            if name not in OWN
        }


def rows_of(execute: Callable[[str], Any], columns: dict[str, list[str]]) -> Rows:
    """All that stands in these columns; `ledger.` records are of the commands themselves."""
    found = {}
    for table, names in columns.items():
        asked = ", ".join(f'"{name}"' for name in names)
        rows = sorted((tuple(row) for row in execute(f'SELECT {asked} FROM "{table}"')), key=repr)  # noqa: S608 -- ours
        found[table] = [row for row in rows if not (table == "audit" and row[3].startswith("ledger."))]
    return found


def before(path: Path, columns: dict[str, list[str]]) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        return rows_of(connection.execute, columns)


def now(url: str, columns: dict[str, list[str]]) -> tuple[Rows, str | None]:
    def read(connection: Connection) -> tuple[Rows, str | None]:
        return rows_of(lambda asked: connection.execute(text(asked)), columns), version_of(connection)

    async def act() -> tuple[Rows, str | None]:
        engine = open_engine(url)
        try:
            return await engine.read(read)
        finally:
            await engine.close()

    return asyncio.run(act())


def test_an_upgrade_keeps_every_row(old: Path, tmp_path: Path) -> None:
    """As docs/ledger.md has it: a backup, then the upgrade."""
    url, columns = f"sqlite:///{old}", columns_of(old)
    kept = before(old, columns)
    assert sum(map(len, kept.values())) > 30
    run(tmp_path, url, "ledger", "backup", str(tmp_path / "backup.db"))
    assert "had the tables of version 0006, and has those of version" in run(tmp_path, url, "ledger", "upgrade")
    assert now(url, columns) == (kept, HEAD)
    assert before(tmp_path / "backup.db", columns) == kept


def test_either_engine_takes_its_file(old: Path, tmp_path: Path, ledger_url: str) -> None:
    columns = columns_of(old)
    kept = before(old, columns)
    told = json.loads(run(tmp_path, ledger_url, "ledger", "restore", str(old), "--json"))
    assert told["version"] == "0006"
    assert now(ledger_url, columns) == (kept, HEAD)


def test_commands_tell_what_was_there(old: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{old}"
    run(tmp_path, url, "ledger", "upgrade")
    keys = {key["id"]: key for key in json.loads(run(tmp_path, url, "keys", "list", "--json"))}
    assert {name: key["state"] for name, key in keys.items()} == {
        "acme": "live", "demo": "live", "gone": "without a secret", "off": "disabled",
    }  # fmt: skip
    assert (keys["acme"]["owner"], keys["acme"]["limits"]) == ("team", {"pages_per_month": 10})
    usage = json.loads(run(tmp_path, url, "usage", "--since", "2026-11-01", "--json"))
    assert [(row["key"], row["requests"], row["pages"]) for row in usage["rows"]] == [("acme", 3, 9)]
    acts = [change["action"] for change in json.loads(run(tmp_path, url, "keys", "audit", "acme", "--json"))]
    assert acts == ["key.rotate", "key.grant", "key.create"]
    (webhook,) = json.loads(run(tmp_path, url, "webhooks", "list", "--json"))
    assert (webhook["state"], webhook["attempts"]) == ("due", 3)


async def test_a_gateway_that_starts_on_it_serves_its_keys(old: Path, start: Start) -> None:
    gateway = await start(environ=ENVIRON, ledger={"url": f"sqlite:///{old}"})
    for secret in SECRETS:
        answer = await gateway.ask(request("GET", "/gateway/v1/me", key=secret))
        assert answer.status == 200, answer.body
        told = json.loads(answer.body)
        assert (told["id"], told["limits"]["pages_per_month"]["limit"]) == ("acme", 17)  # with the grant of 7
    (event,) = [event for event in gateway.events if event["event"] == "ledger tables changed"]
    assert (event["before"], event["now"]) == ("0006", HEAD)
