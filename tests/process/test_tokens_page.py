"""docs/tokens.md, *Try it*: what it says to type is typed beside a demo, and gives what it says."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forkserver import gateway_command
from tests.support.process import GATEWAY, ROOT, Process, free_port

SECTION = (ROOT / "docs" / "tokens.md").read_text().partition("## Try it\n")[2].partition("\n## ")[0]
SHELL = ("bash", "-e")
BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def place(tmp_path: Path, port: int) -> Iterator[Path]:
    """A directory as a clone is after `make run`, with the demo running."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    flags = ("--port", port, "--admin-port", free_port(), "--upstream-port", free_port())
    demo = (*GATEWAY, "demo", "--dir", ".demo", *map(str, flags))
    with gateway_command(commands / "gateway"), Process(demo, tmp_path) as process:
        process.line(lambda line: line.startswith("ready "))
        yield tmp_path


def test_what_the_page_says_to_type_gives_what_it_says(place: Path, port: int) -> None:
    blocks = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in BLOCK.findall(SECTION)]
    make, configure, answer, explain = (block.replace("8443", str(port)) for block in blocks)
    done = subprocess.run(  # noqa: S603 -- our own page
        SHELL, cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, input=make + configure + explain,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    files, me, *judged = done.stdout.splitlines()
    assert files == ".demo/issuer.json  .demo/alice.jwt"
    assert me.startswith(answer.strip().removesuffix(" ..."))
    assert any("jwt:https://issuer.invalid#alice" in line for line in judged), judged
    told = (place / ".demo" / "gateway.yaml").read_text().splitlines()[-5:]
    assert [line.strip() for line in told] == [line.strip() for line in done.stderr.splitlines()[1:6]]
