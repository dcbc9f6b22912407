"""Which configuration a command takes when none is named, and that a failure says so."""

import gc
import sys
from pathlib import Path

import pytest
import rich
from click.testing import CliRunner

from gateway.cli.main import cli
from gateway.cli.which_config import NONE, Taken, which


@pytest.fixture(autouse=True)
def _nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)


def test_the_order_is_variable_directory_installation(tmp_path: Path) -> None:
    installed = tmp_path / "etc.yaml"
    assert which({}, installed) is None
    installed.touch()
    assert which({}, installed) == Taken(installed, "nothing else is named or here")
    (tmp_path / "gateway.yaml").touch()
    for environ in ({}, {"GATEWAY_CONFIG": ""}):
        assert str(which(environ, installed)) == "gateway.yaml (in this directory)"
    named = which({"GATEWAY_CONFIG": "/not/there.yaml"}, installed)
    assert str(named) == "/not/there.yaml ($GATEWAY_CONFIG)"


@pytest.mark.parametrize("command", [("keys", "list"), ("check",), ("serve",), ("usage",)])
def test_a_failure_says_which_was_taken(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich", rich)  # `serve` forgets it, which other tests need
    (tmp_path / "gateway.yaml").write_text("listen: {prot: 1}")
    result = CliRunner().invoke(cli, command)
    gc.enable()  # likewise
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "gateway: the configuration is gateway.yaml (in this directory)"
    named = CliRunner().invoke(cli, [*command, "--config", "gateway.yaml"])
    gc.enable()
    assert named.exit_code == 1
    assert "the configuration is" not in named.stderr


def test_none_at_all_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli, ["keys", "list"])
    assert result.exit_code == 2
    assert NONE in result.stderr
