"""A new database that is far away: its tables are made, although that takes longer than anyone waits for a turn."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from gateway.cli.main import cli
from gateway.errors import LedgerUnavailable
from gateway.ledger.connecting import Connector
from gateway.ledger.migrate import HEAD, Upkeep, version_of
from gateway.ledger.postgres import PostgresEngine
from tests.support.faraway import FarAway
from tests.support.ledgers import Postgres, beat
from tests.support.pure import document, write

FAR: Final = 0.03
TURN: Final = 1.5
"""Longer than it takes to look whether there are tables, and shorter than the 150 round trips that make them."""


@pytest.fixture
def nowhere(postgres: Postgres) -> Iterator[str]:
    """A database without tables."""
    name = postgres.database()
    yield name
    postgres.drop(name)


async def test_who_gives_up_does_not_end_what_makes_the_tables(far: FarAway, nowhere: str) -> None:
    url, made, told = far.url_of(nowhere), list[str](), set[str]()
    upkeep = Upkeep(changed=made.append)
    engine = PostgresEngine(Connector(lambda: url, TURN, TURN), TURN, upkeep, TURN)
    for _ in range(30):
        results = await asyncio.gather(*(engine.write(beat) for _ in range(12)), return_exceptions=True)
        told |= {str(result) for result in results if isinstance(result, LedgerUnavailable)}
        if not any(isinstance(result, Exception) for result in results):
            break
    assert made == [""]
    assert "its tables are being made or changed" in told
    assert await engine.read(version_of) == HEAD
    assert far.trips < 600  # they were made once
    await engine.close()


@pytest.mark.usefixtures("restored_log")
async def test_a_command_says_that_it_waits_and_does(far: FarAway, nowhere: str, tmp_path: Path) -> None:
    ledger = {"url": far.url_of(nowhere), "timeout": "1500ms", "turn_timeout": "1500ms"}
    config = write(tmp_path, document(tmp_path, ledger=ledger))
    command = ["keys", "create", "eve", "--config", str(config)]
    result = await asyncio.to_thread(CliRunner().invoke, cli, command, prog_name="gateway")
    assert result.exit_code == 0, result.stderr
    waits, was_made, *_ = result.stderr.splitlines()
    assert "are being made or changed; this waits until they are" in waits
    assert was_made.endswith("was made.")
    assert result.stdout.startswith("dgw_eve_")
