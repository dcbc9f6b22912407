"""What shells are offered, asked as a shell asks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from gateway.cli.main import cli
from gateway.observe.log import coloured_line, shows_colours
from tests.support.commands import HOOK, JOB, LOST, REFUSED, leaves, write_filled
from tests.support.process import ROOT
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")


def needs(command: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"{command} is not here")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K", "a-secret-that-is-long-enough-for-it")
    keys = [{"id": "ci", "secret": {"env": "K"}}]
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    path = write(tmp_path, document(tmp_path, keys=keys, ledger=ledger, profiles={"premium": {}}))
    assert CliRunner().invoke(cli, ["keys", "create", "cat", "--config", str(path)]).exit_code == 0
    return path


def offered(*words: str, begun: str = "") -> list[str]:
    found = ShellComplete(cli, {}, "gateway", "_GATEWAY_COMPLETE").get_completions(list(words), begun)
    return [item.value for item in found]


def test_key_ids_and_profiles_are_offered(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("keys", "show", "--config", str(config)) == ["cat", "ci"]
    assert offered("keys", "show", begun="ca") == []  # somebody may have laid ./gateway.yaml there
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    assert offered("keys", "show", begun="ca") == ["cat"]
    assert offered("usage", "--key", begun="ci") == ["ci"]
    assert offered("keys", "create", "x", "--profile") == ["default", "premium"]
    assert "status" in offered(begun="st")


def test_names_of_limits_and_methods_are_offered() -> None:
    """Without a configuration: they are the same for all."""
    for command in ("create", "change"):
        assert offered("keys", command, "x", "--limit", begun="pages_per_m") == ["pages_per_month="]
    assert len(offered("keys", "create", "x", "--limit")) > 10
    assert offered("explain", begun="p") == ["PATCH", "POST", "PUT"]
    assert offered("explain", "--ip", "::1", begun="DE") == ["DELETE"]


def test_ids_of_jobs_webhooks_and_refusals_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", str(write_filled(tmp_path, upstreams={"staging": {"url": "http://h:1"}})))
    assert offered("jobs", "show") == sorted([JOB, LOST])
    assert offered("jobs", "show", begun=JOB[:4]) == [JOB]
    assert offered("jobs", "refund") == [LOST]
    assert offered("jobs", "show", "x", "--upstream") == ["default", "staging"]
    for command in ("show", "retry"):
        assert offered("webhooks", command, begun=HOOK[:2]) == [HOOK]
    assert offered("explain", "--request-id") == [REFUSED]
    assert offered("keys", "create") == []


def test_the_words_of_every_command_are_offered_where_the_ledger_knows_them() -> None:
    """An argument or option that names what the ledger or the configuration has is completed."""
    named = {"key_id", "request_id", "delivery", "upstream", "profile", "owner", "account"}
    silent = {
        f"{path} {found.name}"
        for path, command in leaves()
        for found in command.params
        if found.name in named and found._custom_shell_complete is None
    }
    # What is made has no name yet; an owner may be a name that no key has; the demo's upstream is a URL.
    assert silent == {
        "keys create key_id",
        "keys create owner",
        "keys change owner",
        "demo upstream",
        "config init upstream",
    }


@pytest.mark.usefixtures("config")
def test_nothing_is_said_when_nothing_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert offered("keys", "show", "--config", str(tmp_path / "none")) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_for_the_shell(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).stdout
    assert f"_GATEWAY_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["/bin/bash", "-n"], input=script, text=True, check=True)


# What a shell does when somebody presses Tab, without a terminal.
PRESSED = {
    "bash": 'source "$SCRIPT"; COMP_WORDS=(gateway keys show c); COMP_CWORD=3; _gateway_completion gateway; '
    'printf "%s\\n" "${COMPREPLY[@]}"',
    "fish": 'source $SCRIPT; complete -C "gateway keys show c"',
    "zsh": "compdef() { }; compadd() { print -rl -- ${(P)@[-1]} }; source $SCRIPT; "
    "words=(gateway keys show c); CURRENT=4; _gateway_completion",
}


@pytest.mark.parametrize("shell", [pytest.param(name, marks=needs(name)) for name in PRESSED])
def test_a_real_shell_offers_ids(shell: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "gateway"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
    command.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(cli, ["completion", shell]).stdout)
    for name, value in {"GATEWAY_CONFIG": config, "SCRIPT": script, "PYTHONPATH": ROOT}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = subprocess.run([shell, "-c", PRESSED[shell]], capture_output=True, text=True, check=True)  # noqa: S603
    assert (done.stdout.split(), done.stderr) == (["cat", "ci"], "")


def test_check_tells_json(config: Path) -> None:
    told = json.loads(CliRunner().invoke(cli, ["check", "--config", str(config), "--json"]).stdout)
    assert told["config"] == str(config)
    assert not told["valid"]  # its certificate is an empty file
    assert {"kind", "text"} == set(told["findings"][0])


def test_a_terminal_has_colours_unless_they_are_switched_off() -> None:
    assert not shows_colours({}, descriptor=-1)
    from datetime import UTC, datetime  # noqa: PLC0415 -- used here alone

    def line(**fields: object) -> bytes:
        return coloured_line({"timestamp": datetime(2026, 1, 1, tzinfo=UTC), "level": "info", "event": "x", **fields})

    assert b"\x1b" not in line()
    assert line(status=200).startswith(b"\x1b[32m")
    assert line(status=404).startswith(b"\x1b[33m")
    assert line(level="error").startswith(b"\x1b[31m")
    assert line(level="error").endswith(b"\x1b[0m\n")
