"""Keys from the command line while a gateway runs: it follows within two seconds, and shows no secret."""

import http.client
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from gateway.auth.key_secrets import is_secret
from gateway.cli.main import cli
from tests.support.process import DEADLINE, ROOT, Served, Upstream, configure, eventually, serving, trusting

pytestmark = pytest.mark.usefixtures("restored_log")

FOLLOWED: Final = 4.0  # two seconds are promised; the machine of a test may need as long itself
ME: Final = "/gateway/v1/me"
Gateway = Callable[..., str]


@pytest.fixture
def path(tmp_path: Path, certificates: Path, upstream: Upstream) -> Path:
    ledger = {"url": f"sqlite:///{tmp_path}/ledger/ledger.db", "timeout": "10s"}
    return configure(tmp_path, certificates, upstream.url, ledger=ledger, log={"level": "debug"})


@pytest.fixture
def gateway(path: Path) -> Gateway:
    """Runs a command in this process; its standard output."""

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--config", str(path)])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def command(path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *arguments, "--config", str(path)]


def status(served: Served, certificates: Path, secret: str) -> int:
    """What a request with a key is answered."""
    context = trusting(certificates)
    connection = http.client.HTTPSConnection("127.0.0.1", served.port, timeout=DEADLINE, context=context)
    try:
        connection.request("GET", ME, headers={"X-API-Key": secret})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_life_of_a_key(path: Path, certificates: Path, gateway: Gateway) -> None:
    """Made, rotated with an overlap, disabled, enabled, ended, revoked: the running gateway follows each time."""
    with serving(path) as served:

        def answered(secret: str, wanted: int) -> None:
            eventually(lambda: status(served, certificates, secret) == wanted, FOLLOWED)

        line = f'KEY=$("{sys.executable}" -m gateway keys create a --config "{path}" 2>/dev/null); printf %s "$KEY"'
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        first = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, env=environ).stdout  # noqa: S603, S607
        assert is_secret(first.encode())
        answered(first, 200)

        second = json.loads(gateway("keys", "rotate", "a", "--overlap", "3s", "--json"))["secret"]
        answered(second, 200)
        answered(first, 401)
        assert status(served, certificates, second) == 200
        gateway("keys", "disable", "a")
        answered(second, 401)
        gateway("keys", "enable", "a")
        answered(second, 200)
        gateway("keys", "change", "a", "--expires", "1s")
        answered(second, 401)
        gateway("keys", "change", "a", "--expires", "never")
        answered(second, 200)
        third = gateway("keys", "rotate", "a").strip()
        answered(third, 200)
        gateway("keys", "revoke", "a", "--generation", "2")
        answered(second, 401)
        gateway("keys", "revoke", "a", "--force")
        answered(third, 401)
        served.process.press_ctrl_c()
        served.process.exit_code()
    shown = json.loads(gateway("keys", "show", "a", "--json"))
    assert [found["state"] for found in shown["generations"]] == ["ended", "revoked", "revoked"]
    assert all(found["last_used_at"] is not None for found in shown["generations"])
    kept = b"".join(found.read_bytes() for found in (path.parent / "ledger").iterdir())
    for secret in (first, second, third):
        assert secret not in served.process.output
        assert secret.encode() not in kept


def test_both_secrets_work_through_an_overlap(path: Path, certificates: Path, gateway: Gateway) -> None:
    with serving(path) as served:
        first = gateway("keys", "create", "a").strip()
        second = gateway("keys", "rotate", "a").strip()
        eventually(lambda: status(served, certificates, second) == 200, FOLLOWED)
        assert status(served, certificates, first) == 200


def test_two_processes_that_race_for_an_operation_rotate_once(path: Path, gateway: Gateway) -> None:
    gateway("keys", "create", "a")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    racing = [
        subprocess.Popen(  # noqa: S603 -- commands of ours
            command(path, "keys", "rotate", "a", "--operation", "deploy-7", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        for _ in range(2)
    ]
    told: list[dict[str, Any]] = [json.loads(process.communicate(timeout=DEADLINE)[0]) for process in racing]
    assert [process.returncode for process in racing] == [0, 0]
    assert sorted(found["was_done"] for found in told) == [False, True]
    assert [found["generation"] for found in told] == [2, 2]
    assert len([found for found in told if found["secret"] is None]) == 1
    assert len(json.loads(gateway("keys", "show", "a", "--json"))["generations"]) == 2


def test_a_terminal_gets_a_table_and_a_pipe_plain_lines(path: Path, gateway: Gateway) -> None:
    plain = gateway("keys", "list")
    assert plain.splitlines()[1].split() == ["ci", "file", "live", "default", "ci", "admin", "-", "-", "-"]
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(command(path, "keys", "list"), stdout=theirs, stderr=theirs, check=True, env=environ)  # noqa: S603
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "┏━" in shown
    assert "│ ci" in shown
