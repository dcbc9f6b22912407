"""docs/tour.md, block by block: what it says to type is typed, and gives what it says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserver import gateway_command
from tests.support.process import GATEWAY, ROOT, Process, free_port

PAGE = (ROOT / "docs" / "tour.md").read_text()
BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
RECEIVER = ".venv/bin/python -m gateway.demo.receiver .demo"
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def ports() -> dict[str, int]:
    """Those that stand in the page, and those that are free here."""
    return {name: free_port() for name in ("8443", "9090", "8445", "9444")}


@pytest.fixture
def place(tmp_path: Path, ports: dict[str, int]) -> Iterator[Path]:
    """A directory as a clone is after `make run`, with the demo running."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    flags = ("--port", ports["8443"], "--admin-port", ports["9090"], "--upstream-port", ports["8445"])
    demo = (*GATEWAY, "demo", "--dir", ".demo", *map(str, flags))
    with gateway_command(commands / "gateway"), Process(demo, tmp_path) as process:
        process.line(lambda line: line.startswith("ready "))
        yield tmp_path


def blocks(ports: dict[str, int]) -> list[str]:
    """What is to be typed, with the ports of this run."""
    found = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in BLOCK.findall(PAGE)]
    return [re.sub(r"\b(8443|9090|9444)\b", lambda port: str(ports[port[0]]), block) for block in found]


# As a page is pasted: an interactive zsh, unlike bash, takes a comment for arguments, and =word for a command.
SHELLS = {"bash": ("bash", "-e"), "zsh": ("zsh", "-f", "-i", "-e", "+o", "prompt_sp")}


def typed(shell: str, script: str, place: Path) -> list[str]:
    """What a shell prints for each block; each begins by a line that says so."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PROMPT": "", "PROMPT2": ""}
    done = subprocess.run(  # noqa: S603 -- our own page
        SHELLS[shell], cwd=place, env=environ, input=script, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("== block\n")[1:]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_the_tour_says_to_type_gives_what_it_says(shell: str, place: Path, ports: dict[str, int]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    typing = [block for block in blocks(ports) if block.strip() not in {"make run", RECEIVER}]
    assert len(typing) == len(blocks(ports)) - 2
    receiver = (sys.executable, "-m", "gateway.demo.receiver", ".demo", "--port", str(ports["9444"]))
    with Process(receiver, place) as process:
        process.line(lambda line: str(ports["9444"]) in line)
        printed = typed(shell, "\n".join(f"echo '== block'\n{block}" for block in typing), place)
        verified = process.line(lambda line: line.startswith("verified: "))
    steps = ("create", "use", "watch", "me", "grant", "rotate", "job", "list", "webhook", "audit")
    told = dict(zip(steps, printed, strict=True))
    *taken, refused = told["use"].splitlines()
    assert ["request_check_url" in answer for answer in taken] == [True] * 3
    assert "budget_exhausted" in refused
    assert "pages_per_month" in told["watch"]
    assert '"id":"ci"' in told["me"]
    assert "secret 2" in told["rotate"]
    not_found, found = told["job"].splitlines()
    assert "job_not_found" in not_found
    assert "Sample document, page 1" in found
    assert "complete" in told["list"]
    assert "delivered" in told["webhook"]
    assert "request_id" in verified
    assert "key.rotate" in told["audit"]
