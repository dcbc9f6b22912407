"""Started without standard descriptors, or with an output that can't be written: no traceback, nothing lost."""

import http
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gateway.auth.key_secrets import is_secret
from tests.support.process import DEADLINE, ROOT, Process, Upstream, configure, eventually, free_port, run

FULL = Path("/dev/full")


@pytest.fixture
def path(tmp_path: Path, certificates: Path, upstream: Upstream) -> Path:
    ledger = {"url": f"sqlite:///{tmp_path}/ledger/ledger.db", "timeout": "20s"}
    return configure(tmp_path, certificates, upstream.url, ledger=ledger)


def shell(path: Path, rest: str, redirected: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command of the gateway as a shell does, with redirections: a Python of its own, which meets them."""
    command = f'exec "{sys.executable}" -m gateway {rest} --config "{path}" {redirected}'
    return subprocess.run(  # noqa: S603 -- ours
        ["/bin/sh", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE, check=False
    )


def said(path: Path, rest: str) -> str:
    """What a command writes that meets none."""
    code, output = run(*rest.split(), "--config", str(path))
    assert code == 0, output
    return output


def ids(path: Path) -> dict[str, int]:
    """The keys of the ledger, and how many secrets each has."""
    found = json.loads(said(path, "keys list --json"))
    return {key["id"]: len(key["generations"]) for key in found if key["source"] == "ledger"}


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("redirected", [">/dev/full", ">&-"])
@pytest.mark.parametrize("extra", ["", " --json"])
def test_a_key_whose_secret_can_not_be_shown_is_not_made(path: Path, redirected: str, extra: str) -> None:
    assert any(is_secret(line.encode()) for line in said(path, "keys create first").splitlines())
    for command in ("keys create second", "keys rotate first"):
        done = shell(path, command + extra, redirected)
        assert done.returncode == 1
        assert done.stderr.startswith("gateway: standard output ")
        assert done.stderr.endswith(": nothing was changed\n")
        assert done.stderr.count("\n") == 1
    assert ids(path) == {"first": 1}


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_what_can_not_be_written_is_a_line_and_no_traceback(path: Path) -> None:
    for command in ("keys list --json", "check", "usage --csv"):
        done = shell(path, command, ">/dev/full")
        assert done.returncode == 1, command
        assert done.stderr.splitlines()[-1].startswith("gateway: standard output can't be written"), command
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_key_is_made_where_only_the_words_about_it_are_lost(path: Path) -> None:
    done = shell(path, "keys create first", "2>/dev/full")
    assert done.returncode == 0
    assert is_secret(done.stdout.strip().encode())
    assert ids(path) == {"first": 1}


def test_without_standard_descriptors_no_socket_takes_their_place(
    tmp_path: Path, certificates: Path, upstream: Upstream
) -> None:
    port = free_port()
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    path = configure(tmp_path, certificates, upstream.url, ledger=ledger, admin={"port": port})
    start = f'exec "{sys.executable}" -m gateway serve --config "{path}" <&- >&- 2>&-'
    with Process(("/bin/sh", "-c", start)) as process:
        eventually(lambda: answers(port))
        assert {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 1, 2)} == {Path(os.devnull)}
        process.send(signal.SIGTERM)
        assert process.exit_code() == 0


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=DEADLINE) as answer:
            return bool(answer.status == http.HTTPStatus.OK)
    except OSError:
        return False
