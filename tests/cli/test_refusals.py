"""`gateway refusals` on a ledger that has some."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.admin.command_for_refusal import command_for
from gateway.cli.main import cli
from gateway.ledger.refusals import RefusalRow, note
from gateway.model.meanings import MEANINGS, OF_REASONS, meaning_of
from gateway.model.reasons import Reason, Why
from tests.support.commands import REFUSED, put, write_filled

pytestmark = pytest.mark.usefixtures("restored_log")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path, old = write_filled(tmp_path), int(time.time()) - 7200
    rows = [
        RefusalRow("old", old, 1, 403, "forbidden", None, "usage", "GET", "ci", "10.0.0.1", "No."),
        RefusalRow("bad", old, 1, 502, "upstream_unreachable", None, "submit", "POST", "ci", "10.0.0.1", "No."),
        RefusalRow("away", old, 1, 503, "ledger_unavailable", None, "submit", "POST", "ci", "10.0.0.1", "No."),
        RefusalRow("used", old, 1, 403, "budget_exhausted", None, "submit", "POST", "jwt:i#a b", "10.0.0.1", "No."),
        RefusalRow("pages", old, 1, 403, "budget_exhausted", None, "submit", "POST", "ci", "10.0.0.1",
                   "10 of 10 are used or reserved and this needs 1 (pages_per_month).", "Page budget used up"),
        RefusalRow("spent", old, 1, 403, "budget_exhausted", None, "submit", "POST", "ci", "10.0.0.1",
                   "10 of 10 are used or reserved and this needs 1 (spend_per_month).", "Spend budget used up"),
        RefusalRow("gone", old, 1, 401, "unauthenticated", "closed", "submit", "POST", "ci", "10.0.0.1", "No."),
        RefusalRow("sum-1", old, 7, 401, "unauthenticated", "missing", "submit", "POST", None, "10.0.0.2", None),
    ]  # fmt: skip
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
        ("away", None, 1),
        ("bad", None, 1),
        ("gone", "closed", 1),
        ("old", None, 1),
        ("pages", None, 1),
        ("spent", None, 1),
        ("sum-1", "missing", 7),
        ("used", None, 1),
    ]
    assert set(rows[0]) == {
        "request_id", "requests", "status", "reason", "why", "method", "route", "at", "key", "client", "detail",
    }  # fmt: skip
    text = CliRunner().invoke(cli, ["refusals", "--config", str(config)]).stdout
    assert text.splitlines()[0].split()[:6] == ["request", "id", "at", "status", "why", "key"]


def test_they_can_be_narrowed(config: Path) -> None:
    assert [row["request_id"] for row in listed(config, "--since", "1h")] == [REFUSED]
    assert [row["request_id"] for row in listed(config, "--key", "ci")] == [
        "away",
        "bad",
        "gone",
        "old",
        "pages",
        "spent",
    ]
    assert len(listed(config, "--limit", "2")) == 2


def explained(config: Path, request_id: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["explain", "--config", str(config), "--request-id", request_id, "--json"])
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_one_is_explained_with_what_to_look_at(config: Path) -> None:
    audience = "Its aud matches none of the issuer's audiences."
    assert explained(config, REFUSED)["means"] == audience
    assert explained(config, REFUSED)["look_at"] == f"the client: {audience} See `gateway explain --token FILE`."
    closed = "It is revoked or disabled, or its profile is gone."
    assert explained(config, "gone")["look_at"] == f"the client: {closed} See `gateway keys show ci`."
    assert explained(config, "old")["means"] == OF_REASONS[Reason.FORBIDDEN]
    assert explained(config, "bad")["means"] == OF_REASONS[Reason.UPSTREAM_UNREACHABLE]
    assert explained(config, "old")["look_at"].endswith("or is blocked. See `gateway keys show ci`.")
    upstream = "the container default at http://127.0.0.1:8000, or the way to it: see its own log"
    assert explained(config, "away")["look_at"].startswith("the ledger: `ledger is unavailable` in the gateway's log")
    assert explained(config, "used")["look_at"].endswith(
        "`gateway callers grant 'jwt:i#a b' --pages N --until WHEN` adds pages to its budgets."
    )
    pages, spent = explained(config, "pages"), explained(config, "spent")
    assert (pages["title"], spent["title"]) == ("Page budget used up", "Spend budget used up")
    assert "`gateway keys grant ci --pages N --until WHEN` adds" in pages["look_at"]
    assert spent["look_at"].endswith("See `gateway keys show ci`.")
    assert explained(config, "bad")["look_at"].startswith(upstream)


def test_the_meanings_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
    table = page.partition("### Why a credential was refused")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE)
    assert {why: text.replace("`", "") for why, text in rows[1:]} == {
        str(why): text for why, text in MEANINGS.items()
    }
    assert set(MEANINGS) == set(Why)


@pytest.mark.parametrize(
    ("why", "reason", "key", "command"),
    [
        ("signature", "token_invalid", None, "gateway explain --token FILE"),
        ("expired", "token_expired", None, "gateway explain --token FILE"),
        ("name", "unauthenticated", None, "gateway explain --certificate FILE"),
        ("expired", "unauthenticated", "ci", "gateway keys show ci"),
        ("not_known", "unauthenticated", None, "gateway keys list"),
        (None, "rate_limited", "jwt:i#a", "gateway callers show 'jwt:i#a'"),
        ("of a later version", "unauthenticated", None, None),
    ],
)
def test_each_kind_has_its_command(why: str | None, reason: str, key: str | None, command: str | None) -> None:
    assert command_for(why, reason, key) == command
    assert meaning_of("of a later version") is None


def test_an_id_that_no_key_has_is_told(config: Path) -> None:
    assert CliRunner().invoke(cli, ["keys", "create", "web", "--config", str(config)]).exit_code == 0

    def told(name: str) -> str:
        result = CliRunner().invoke(cli, ["refusals", "--key", name, "--json", "--config", str(config)])
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
        return result.stderr

    assert "Neither the configuration nor the ledger has a key zzzzzz.\n" in told("zzzzzz")
    assert "has a key wob; did you mean web?\n" in told("wob")
    assert "Neither" not in told("web")
    assert "Neither" not in told("jwt:i#nobody")
