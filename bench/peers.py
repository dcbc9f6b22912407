"""The proxies that are compared: how each is found, configured for the same duties, started and known to be ready."""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from bench.client import Errand, connect, exchange
from bench.process import PEER_CORE, NotRunningError, free_port, running
from bench.site import Site, pause

READY_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that runs."""

    name: str
    port: int
    pid: int
    logs: tuple[Path, ...]

    def truncate_logs(self) -> None:
        """Empties the logs: all peers append."""
        for log in self.logs:
            if log.exists():
                log.write_bytes(b"")


def binary(name: str, python: str) -> str | None:
    """Finds a peer's program: beside our interpreter, or on the PATH; None when it is missing."""
    if name == "gateway":
        found = subprocess.run([python, "-m", "gateway", "--version"], capture_output=True, check=False)
        return python if found.returncode == 0 else None
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def command(name: str, program: str, config: Path) -> list[str]:
    """How a peer is started: in the foreground, one worker."""
    return {
        "gateway": [program, "-m", "gateway", "serve", "--config", str(config)],
        "nginx": [program, "-e", str(config.parent / "nginx.error.log"), "-c", str(config)],
        "haproxy": [program, "-db", "-f", str(config)],
        "envoy": [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
    }[name]


def version(name: str, program: str) -> str:
    """A peer's version, and for the gateway that of its interpreter."""
    flags = {"gateway": ["-m", "gateway", "--version"], "nginx": ["-v"], "haproxy": ["-v"], "envoy": ["--version"]}
    number = numbered([program, *flags[name]])
    return f"{number} on Python {numbered([program, '-V'])}" if name == "gateway" else number


def numbered(command: list[str]) -> str:
    """The first version number that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(?<![\w.])\d+\.\d+\.\d+[^\s/]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


@contextlib.contextmanager
def serving(name: str, program: str, site: Site) -> Iterator[Peer]:
    """Runs a peer on its core until the block ends."""
    suffix = {"nginx": "conf", "haproxy": "cfg"}.get(name, "yaml")
    port = free_port()
    folder = site.folder / f"{name}-{port}"
    folder.mkdir()
    access, output = folder / "access.log", folder / "output.log"
    config = site.render(f"{name}.{suffix}", folder, port=port, log=access, admin=free_port())
    if name == "gateway":
        shutil.copy(site.folder / "ledger.db", folder / "ledger.db")
    with running(command(name, program, config), output, PEER_CORE) as process:
        wait_until_ready(name, process, Errand("", port, site.key, "/health_check", 1, 1, 1), output)
        yield Peer(name, port, process.pid, (access, output))


def wait_until_ready(name: str, process: subprocess.Popen[bytes], probe: Errand, output: Path) -> None:
    """Waits until the peer forwards a request; a peer that does not is reported with its last words."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, HTTPException):
            exchange(connect(probe), probe)
            return
        pause(0.1)
    words = output.read_text(errors="replace")[-2000:]
    raise NotRunningError(f"{name} did not start (exit code {process.poll()}):\n{words}")
