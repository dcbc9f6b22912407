"""`gateway refusals` on a ledger that has some."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from gateway.cli.main import cli
from gateway.ledger.refusals import RefusalRow, note
from tests.support.commands import REFUSED, put, write_filled


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path, old = write_filled(tmp_path), int(time.time()) - 7200
    rows = [
        RefusalRow("old", old, 1, 403, "forbidden", None, "usage", "GET", "ci", "10.0.0.1", "No."),
        RefusalRow("sum-1", old, 7, 401, "unauthenticated", "missing", "submit", "POST", None, "10.0.0.2", None),
    ]
    put(tmp_path / "ledger.db", lambda connection: note(connection, rows))
    return path


def listed(config: Path, *more: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(cli, ["refusals", "--config", str(config), "--json", *more])
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def test_they_are_listed_the_newest_first_with_why(config: Path) -> None:
    rows = listed(config)
    assert [(row["request_id"], row["why"], row["requests"]) for row in rows] == [
        (REFUSED, "audience", 1),
        ("old", None, 1),
        ("sum-1", "missing", 7),
    ]
    assert set(rows[0]) == {
        "request_id", "requests", "status", "reason", "why", "method", "route", "at", "key", "client", "detail",
    }  # fmt: skip
    text = CliRunner().invoke(cli, ["refusals", "--config", str(config)]).stdout
    assert text.splitlines()[0].split()[:6] == ["request", "id", "at", "status", "why", "key"]


def test_they_can_be_narrowed(config: Path) -> None:
    assert [row["request_id"] for row in listed(config, "--since", "1h")] == [REFUSED]
    assert [row["request_id"] for row in listed(config, "--key", "ci")] == ["old"]
    assert len(listed(config, "--limit", "2")) == 2
