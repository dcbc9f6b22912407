"""How commands print: one place writes, and every command takes --json, or is listed with the reason why not."""

import json
import re
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import gateway.cli
from gateway.cli import run_status, run_top
from gateway.cli.main import cli
from gateway.cli.output import answer, is_terminal, or_fail
from gateway.cli.samples import Samples
from gateway.errors import ConfigurationError, Fault
from tests.support.commands import CALLS, HOOK, KEY, LOST, call_of, leaves, takes, write_filled

pytestmark = pytest.mark.usefixtures("restored_log")

COMMANDS = dict(leaves())
HOME = Path(gateway.cli.__file__).parent
# What writes by itself: output.py for all, __main__ through it; tables and pictures are rich's.
WRITES = re.compile(r"click\.s?echo|\bprint\(|sys\.(?:__)?stdout|json\.dump\(|\.print\(|os\.write\(")
WRITERS = {"output.py", "standard_streams.py", "table.py"}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    async def ask(*_: object) -> Samples:
        return Samples({}, {})

    for asks in (run_status, run_top):
        monkeypatch.setattr(asks, "ask", ask)
    write_filled(tmp_path)
    made = CliRunner().invoke(cli, ["keys", "create", KEY, "--config", str(tmp_path / "gateway.yaml")])
    assert made.exit_code == 0, made.output
    return tmp_path


WITHOUT_JSON = {
    "completion": "it prints a script that a shell reads",
    "demo": "it runs until it is ended, and prints lines to copy",
    "serve": "it runs until it is ended; log.format says how it logs",
}


def called(name: str, directory: Path, *more: str) -> Result:
    words = [*call_of(name, directory), *more]
    if takes(COMMANDS[name], "--config"):
        words += ["--config", str(directory / ("new.yaml" if name == "config init" else "gateway.yaml"))]
    result = CliRunner().invoke(cli, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == (1 if name == "check" else 0), result.output  # its certificate is an empty file
    return result


def test_a_command_takes_json_or_says_why_not() -> None:
    without = {name for name, command in COMMANDS.items() if not takes(command, "--json")}
    assert without == set(WITHOUT_JSON)
    assert set(CALLS) == set(COMMANDS) - without
    assert all(WITHOUT_JSON.values())


@pytest.mark.parametrize("name", sorted(CALLS))
def test_with_json_a_command_prints_one_document_and_nothing_else(name: str, directory: Path) -> None:
    result = called(name, directory, "--json")
    assert isinstance(json.loads(result.stdout), dict | list)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_without_it_a_command_prints_no_json(name: str, directory: Path) -> None:
    text = called(name, directory).stdout
    assert text.endswith("\n")
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        json.loads(text)


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("certs dev", ["ca", "certificate", "private_key", "clients"]),
        ("config init", ["config", "settings"]),
        ("keys revoke", ["id", "generations"]),
        ("keys grant", ["id", "pages", "until"]),
        ("keys end-grants", ["id", "grants"]),
        ("keys reset", ["id", "requests", "pages", "spend"]),
    ],
)
def test_what_is_changed_has_the_names_of_the_admin_api(name: str, members: list[str], directory: Path) -> None:
    assert list(json.loads(called(name, directory, "--json").stdout)) == members


@pytest.mark.parametrize(("name", "state"), [("keys disable", "disabled"), ("keys enable", "live")])
def test_a_changed_key_is_told_as_it_is_listed(name: str, state: str, directory: Path) -> None:
    told = json.loads(called(name, directory, "--json").stdout)
    assert told["state"] == state
    assert told in json.loads(called("keys list", directory, "--json").stdout)


def test_a_retried_webhook_is_told_as_it_is_shown(directory: Path) -> None:
    told = json.loads(called("webhooks retry", directory, "--json").stdout)
    assert (told["id"], told["state"], told["attempts"]) == (HOOK, "due", 0)
    assert told == json.loads(called("webhooks show", directory, "--json").stdout)


def test_a_refund_is_told(directory: Path) -> None:
    told = json.loads(called("jobs refund", directory, "--json").stdout)
    assert told == {"request_id": LOST, "account": f"key:{KEY}", "pages": 3}


def test_a_closed_standard_output_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert not is_terminal()


@pytest.mark.parametrize(("is_terminal", "told"), [(True, "canary"), (False, "***")])
def test_a_fault_for_the_log_has_no_value_but_on_a_terminal(
    is_terminal: bool, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise ConfigurationError([Fault("a.b", "is wrong", "line 3", "canary")])

    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    with pytest.raises(SystemExit):
        or_fail(fails, is_logged=True)
    assert capsys.readouterr().err == f"gateway: a.b: is wrong (line 3: {told})\n"


def test_nothing_else_writes_to_standard_output() -> None:
    for path in HOME.glob("*.py"):
        if path.name not in WRITERS:
            assert not WRITES.search(path.read_text()), path.name


def test_a_command_that_takes_no_json_can_not_answer() -> None:
    @click.command()
    def forgetful() -> None:
        answer({}, lambda: None)

    assert isinstance(CliRunner().invoke(forgetful).exception, KeyError)
