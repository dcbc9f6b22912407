"""`gateway audit` on a real ledger, in this process."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from gateway.ledger.audit import append, record
from gateway.ledger.ledger import open_ledger
from gateway.model.audit import Action, Entry
from gateway.units import moment
from tests.support.ledgers import NOON
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

Run = Callable[..., Result]
NOW = int(NOON)


@pytest.fixture
def run(tmp_path: Path, ledger_url: str) -> Run:
    config = write(tmp_path, document(tmp_path, ledger={"url": ledger_url, "timeout": "30s"}))

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["audit", *arguments, "--config", str(config)], prog_name="gateway")
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


def fill(ledger_url: str, *notes: Entry) -> None:
    async def work() -> None:
        ledger = open_ledger(ledger_url, 30.0)
        await ledger.write(lambda c: record(c, NOON, "cli:op", "key.create", "ci", {"profile": "default"}))
        await ledger.write(lambda c: append(c, notes))
        await ledger.close()

    asyncio.run(work())


def told(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_id_that_no_key_has_is_told(options: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["keys", "create", "ci", "--config", str(tmp_path / "gateway.yaml")])
    assert made.exit_code == 0
    result = run("--since", "2026-11-23", "--key", "cii", *options)
    assert "Neither the configuration nor the ledger has a key cii; did you mean ci?\n" in result.stderr
    for known in ("ci", "jwt:https://issuer.example#a"):
        assert "Neither" not in run("--since", "2099-01-01", "--key", known, *options).stderr


def test_all_of_it_is_told_the_newest_first(run: Run, ledger_url: str) -> None:
    fill(ledger_url, Entry(NOW + 60, "anyone", Action.REFUSED, "unauthenticated", {"count": 7}))
    since = "2026-11-23"
    lines = run("--since", since).output.splitlines()
    assert lines[0].split() == ["at", "actor", "action", "subject", "detail"]
    assert lines[1].split() == ["2026-11-23T12:01:00Z", "anyone", "request.refused", "unauthenticated", "count=7"]
    assert lines[2].split() == ["2026-11-23T12:00:00Z", "cli:op", "key.create", "ci", "profile=default"]
    rows = told(run("--since", since, "--json"))
    assert [(row["at"], row["subject"], row["detail"]) for row in rows] == [
        (moment(NOW + 60), "unauthenticated", {"count": 7}),
        (moment(NOW), "ci", {"profile": "default"}),
    ]
    assert [row["subject"] for row in told(run("--since", since, "--key", "ci", "--json"))] == ["ci"]
    assert told(run("--since", since, "--key", "nobody", "--json")) == []


@pytest.mark.parametrize("count", [999, 2500])
def test_many_records_are_told_whole(run: Run, ledger_url: str, count: int) -> None:
    fill(ledger_url, *(Entry(NOW + n, "key:ci", Action.READ, f"j{n}", {}) for n in range(count)))
    rows = told(run("--since", "2026-11-23", "--json"))
    assert [row["subject"] for row in rows] == [*(f"j{n}" for n in reversed(range(count))), "ci"]
    assert len(run("--since", "2026-11-23").output.splitlines()) == count + 2


def test_a_table_has_an_end_and_says_so(run: Run, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.run_audit.MAX_ROWS", 5)
    fill(ledger_url, *(Entry(NOW + n, "key:ci", Action.READ, f"j{n}", {}) for n in range(5)))
    result = run("--since", "2026-11-23")
    assert len(result.stdout.splitlines()) == 6
    assert "the latest 5; --json tells all" in result.stderr
    assert len(told(run("--since", "2026-11-23", "--json"))) == 6


def test_there_is_nothing_yet(run: Run) -> None:
    assert told(run("--json")) == []
    assert run().stdout.splitlines() == ["at  actor  action  subject  detail"]


@pytest.mark.parametrize("since", ["yesterday", "", "-1d"])
def test_a_moment_that_is_none_is_wrong_usage(run: Run, since: str) -> None:
    assert "write a duration" in run("--since", since, code=2).stderr


def test_a_ledger_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    config = write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{tmp_path}"}))
    result = CliRunner().invoke(cli, ["audit", "--json", "--config", str(config)])
    assert result.exit_code == 1
    assert result.stdout == ""
