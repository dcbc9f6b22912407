"""Commands that need the ledger alone go on where the secrets of other sections can't be read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from tests.support.pure import document, write

AWAY = "/run/credentials/document-gateway.service"


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def run(tmp_path: Path, *command: str, code: int = 0, **sections: Any) -> Result:
    whole = {
        "ledger": {"url": {"env": "LEDGER_URL"}},
        "admin": {"token": {"file": f"{AWAY}/admin-token"}, "port": 1},
        "webhooks": {"out": {"secret": {"file": f"{AWAY}/webhook-secret"}}},
        "keys": [{"id": name, "secret": {"env": f"KEY_OF_{name}"}} for name in ("one", "two")],
        **sections,
    }
    path = write(tmp_path, document(tmp_path, **whole))
    result = CliRunner().invoke(cli, [*command, "--config", str(path)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")


def test_a_ledger_moves_without_the_secrets_of_the_service(tmp_path: Path) -> None:
    run(tmp_path, "keys", "create", "made")
    listed = json.loads(run(tmp_path, "keys", "list", "--json").stdout)
    assert [key["id"] for key in listed] == ["one", "two", "made"]
    run(tmp_path, "ledger", "backup", str(tmp_path / "backup.db"))
    run(tmp_path, "ledger", "copy", "--to", f"sqlite:///{tmp_path}/copy.db")
    run(tmp_path, "usage")


def test_its_own_url_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGER_URL")
    told = run(tmp_path, "keys", "list", code=1).stderr
    assert "gateway: ledger.url: the variable LEDGER_URL is empty or not there" in told
    assert "webhooks.out.secret" in told


def test_other_faults_are_told(tmp_path: Path) -> None:
    told = run(tmp_path, "keys", "list", code=1, network={"allow": ["10.0.0.5/8"]}).stderr
    assert "network.allow[0]" in told
    assert f"webhooks.out.secret: {AWAY}/webhook-secret can't be read" in told


def test_whoever_judges_by_secrets_needs_them(tmp_path: Path) -> None:
    explain = ("explain", "--key", "made", "--ip", "127.0.0.1", "GET", "/api/v1/marker/a")
    assert "webhooks.out.secret" in run(tmp_path, *explain, code=1).stderr
    assert "webhooks.out.secret" in run(tmp_path, "check", code=1).stdout


def test_a_variable_stands_for_a_url_that_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away: dict[str, Any] = {"url": {"file": f"{AWAY}/ledger-url"}}
    assert "ledger.url: " in run(tmp_path, "keys", "list", code=1, ledger=away).stderr
    monkeypatch.setenv("GATEWAY__LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")
    run(tmp_path, "keys", "create", "made", ledger=away)
