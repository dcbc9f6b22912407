"""Which configuration a command takes when none is named, and that a failure says so."""

import gc
import os
import sys
from pathlib import Path

import pytest
import rich
from click.testing import CliRunner

from gateway.cli import run_status
from gateway.cli.main import cli
from gateway.cli.samples import Samples
from gateway.cli.which_config import NONE, ConfigChoice, NotOurs, which
from tests.support.commands import CALLS, call_of, leaves, takes, write_filled
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

# The configuration is right; its ledger is a directory, nobody listens, and its certificate is none.
BROKEN = """
network: {{allow: [10.0.0.0/8]}}
tls: {{certificate: {directory}/gateway.yaml, private_key: {directory}/gateway.yaml}}
ledger: {{url: sqlite:///{directory}}}
admin: {{port: 1}}
"""


def _ours(directory: Path, text: str) -> Path:
    """Whatever the umask."""
    path = directory / "gateway.yaml"
    path.write_text(text)
    path.chmod(0o644)
    return path


@pytest.fixture(autouse=True)
def _nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)


def test_the_order_is_variable_directory_installation(tmp_path: Path) -> None:
    installed = tmp_path / "etc.yaml"
    assert which({}, installed) is None
    installed.touch()
    assert which({}, installed) == ConfigChoice(installed, "nothing else is named or here")
    _ours(tmp_path, "")
    for environ in ({}, {"GATEWAY_CONFIG": ""}):
        assert str(which(environ, installed)) == "gateway.yaml (in this directory)"
    named = which({"GATEWAY_CONFIG": "/not/there.yaml"}, installed)
    assert str(named) == "/not/there.yaml ($GATEWAY_CONFIG)"


@pytest.mark.parametrize("command", [("keys", "list"), ("check",), ("serve",), ("usage",)])
def test_a_failure_says_which_was_taken(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich", rich)  # `serve` forgets it, which other tests need
    _ours(tmp_path, "listen: {prot: 1}")
    result = CliRunner().invoke(cli, command)
    gc.enable()  # likewise
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "gateway: the configuration is gateway.yaml (in this directory)"
    named = CliRunner().invoke(cli, [*command, "--config", "gateway.yaml"])
    gc.enable()
    assert named.exit_code == 1
    assert "the configuration is" not in named.stderr


@pytest.mark.parametrize(
    "name", sorted(name for name, command in leaves() if takes(command, "--config") and name != "config init")
)
def test_every_command_says_what_it_took_when_it_fails(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the configuration is wrong, or the ledger, or nobody answers."""
    monkeypatch.setitem(sys.modules, "rich", rich)  # as above
    told = "onfiguration is gateway.yaml (in this directory)"
    words = call_of(name, tmp_path) if name in CALLS else name.split()
    for content in ("listen: {{prot: 1}}", BROKEN):
        _ours(tmp_path, content.format(directory=tmp_path))
        result = CliRunner().invoke(cli, words)
        gc.enable()  # as above
        if name == "config show" and content == BROKEN:
            assert result.exit_code == 0  # it asks nobody
            continue
        assert result.exit_code == 1, result.output
        assert result.stderr.count(told) == 1, result.stderr


def test_an_unhealthy_gateway_is_told_with_what_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> Samples:
        return Samples({"missing": ["ledger"]}, {})

    monkeypatch.setattr(run_status, "ask", ask)
    write_filled(tmp_path)
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "gateway: the configuration is gateway.yaml (in this directory)"


def test_none_at_all_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli, ["keys", "list"])
    assert result.exit_code == 2
    assert NONE in result.stderr


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_not_taken_unasked(mode: int, tmp_path: Path) -> None:
    _ours(tmp_path, "").chmod(mode)
    with pytest.raises(NotOurs, match=r"since ./gateway.yaml can be written by others: .* --config gateway.yaml"):
        which({}, tmp_path / "none")


@pytest.mark.parametrize("mode", [0o770, 0o1777])
def test_a_file_of_a_directory_that_others_can_write_is_not_taken_unasked(mode: int, tmp_path: Path) -> None:
    _ours(tmp_path, "")
    tmp_path.chmod(mode)
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 2
    assert "since this directory can be written by others" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_taken_unasked(tmp_path: Path) -> None:
    os.chown(_ours(tmp_path, ""), 12345, -1)
    with pytest.raises(NotOurs, match=r"since \./gateway\.yaml belongs to another user"):
        which({}, tmp_path / "none")


def test_a_link_into_a_directory_that_others_can_write_is_not_taken_unasked(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "gateway.yaml").symlink_to(_ours(shared, ""))
    assert which({}, tmp_path / "none")
    shared.chmod(0o777)
    with pytest.raises(NotOurs, match="/shared can be written by others"):
        which({}, tmp_path / "none")


def test_a_command_that_changes_says_what_it_took_and_once(tmp_path: Path) -> None:
    write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"})).chmod(0o644)
    told = "The configuration is gateway.yaml (in this directory)."
    made = CliRunner().invoke(cli, ["keys", "create", "ci"])
    assert made.exit_code == 0
    assert made.stderr.splitlines()[0] == told
    assert len(made.stdout.splitlines()) == 1
    failed = CliRunner().invoke(cli, ["keys", "create", "ci"])
    assert failed.exit_code == 1
    assert failed.stderr.count("onfiguration is") == 1
    assert CliRunner().invoke(cli, ["ledger", "upgrade"]).stderr.splitlines()[0] == told
    assert told not in CliRunner().invoke(cli, ["keys", "list"]).stderr
