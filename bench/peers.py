"""The proxies that are compared: how each is found, configured for the same duties, started and known to be ready."""

import contextlib
import os
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
from bench.targets import GATEWAY

READY_SECONDS = 20
NGINX_AUTH = "nginx-auth"
LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who takes part: its name in the tables, what kind of peer it is, and its program.

    For a gateway the program is an interpreter, `tree` is whose code it runs, and `home` has its ledger and a token.
    """

    name: str
    kind: str
    program: str
    tree: Path
    home: Path

    @property
    def is_gateway(self) -> bool:
        """Whether it is one of ours."""
        return self.kind == GATEWAY

    @property
    def knows_accounts(self) -> bool:
        """Whether it lets in more than one key."""
        return self.is_gateway or self.kind == NGINX_AUTH

    @property
    def token(self) -> str:
        """A JWT that it lets in, if it is a gateway."""
        return (self.home / "token.txt").read_text()

    def environment(self) -> dict[str, str]:
        """The environment of its processes: a gateway imports its own tree, and keeps what it compiled of it."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPATH": str(self.tree)}


@dataclass(frozen=True, slots=True)
class Peer:
    """A contestant that runs, and the seconds from its start to its first answer."""

    who: Contestant
    port: int
    pid: int
    logs: tuple[Path, ...]
    started_in: float

    def truncate_logs(self) -> None:
        """Empties the logs: all peers append."""
        for log in self.logs:
            if log.exists():
                log.write_bytes(b"")


def binary(kind: str, python: str, tree: Path) -> str | None:
    """Finds a peer's program: beside our interpreter, or on the PATH; None when it is missing."""
    if kind == GATEWAY:
        return python if imports(python, tree) else None
    name = "nginx" if kind == NGINX_AUTH else kind
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def imports(python: str, tree: Path) -> bool:
    """Whether that interpreter takes the gateway from that tree, and from no installed package."""
    ask = [python, "-P", "-c", "import gateway.cli; print(gateway.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    found = subprocess.run(ask, capture_output=True, text=True, check=False, env=environment)
    return found.returncode == 0 and Path(found.stdout.strip()).resolve().is_relative_to(tree.resolve())


def command(who: Contestant, config: Path) -> list[str]:
    """How a peer is started: in the foreground, one worker."""
    nginx = [who.program, "-e", str(config.parent / "nginx.error.log"), "-c", str(config)]
    return {
        "gateway": [who.program, "-m", "gateway", "serve", "--config", str(config)],
        "nginx": nginx,
        NGINX_AUTH: nginx,
        "haproxy": [who.program, "-db", "-f", str(config)],
        "envoy": [who.program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
        "caddy": [who.program, "run", "--config", str(config)],
    }[who.kind]


def version(who: Contestant) -> str:
    """A peer's version, and for a gateway its commit and that of its interpreter."""
    flags = {"gateway": ["-m", "gateway", "--version"], "envoy": ["--version"], "caddy": ["version"]}
    number = numbered([who.program, *flags.get(who.kind, ["-v"])], who)
    if not who.is_gateway:
        return number
    return f"{number}{commit(who.tree)} on Python {numbered([who.program, '-V'], who)}"


def commit(tree: Path) -> str:
    """The commit of a tree in brackets, and whether it was changed since; nothing where git does not know."""
    ask = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(ask, capture_output=True, text=True, check=False) if shutil.which("git") else None
    return f" ({found.stdout.strip()})" if found and found.returncode == 0 else ""


def numbered(command: list[str], who: Contestant) -> str:
    """The first version number that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=who.environment(), cwd=who.tree)
    found = re.search(r"(?<![\w.])v?(\d+\.\d+\.\d+[^\s/]*)", done.stdout + done.stderr)
    return found[1] if found else "unknown"


@contextlib.contextmanager
def serving(who: Contestant, site: Site, **places: object) -> Iterator[Peer]:
    """Runs a peer on its core until the block ends; `places` change its configuration."""
    port = free_port()
    folder = site.folder / f"{who.name}-{port}"
    folder.mkdir()
    access, output = folder / "access.log", folder / "output.log"
    config = configured(who, site, folder, port=port, log=access, admin=free_port(), **places)
    begun = time.monotonic()
    try:
        with running(command(who, config), output, PEER_CORE, who.environment(), folder) as process:
            wait_until_ready(who.name, process, Errand("", port, site.key, "/health_check", 1, 1, 1), output)
            yield Peer(who, port, process.pid, (access, output), time.monotonic() - begun)
    finally:
        shutil.rmtree(folder)


def configured(who: Contestant, site: Site, folder: Path, **places: object) -> Path:
    """Writes a peer's configuration, and for a gateway its ledger."""
    suffix = {"nginx": "conf", NGINX_AUTH: "conf", "haproxy": "cfg", "caddy": "Caddyfile"}.get(who.kind, "yaml")
    own: dict[str, object] = {"home": who.home, "ledger": f"sqlite:///{folder / 'ledger.db'}", "hold": "0s"}
    if who.is_gateway and "ledger" not in places:
        shutil.copy(who.home / "ledger.db", folder / "ledger.db")
    return site.render(f"{who.kind}.{suffix}", folder, **own | places)


def wait_until_ready(name: str, process: subprocess.Popen[bytes], probe: Errand, output: Path) -> None:
    """Waits until the peer forwards a request; a peer that does not is reported with its last words."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, HTTPException):
            exchange(connect(probe), probe)
            return
        pause(LOOK_SECONDS)
    logs = [output, *output.parent.glob("*.error.log")]
    words = "".join(log.read_text(errors="replace")[-2000:] for log in logs)
    raise NotRunningError(f"{name} did not start (exit code {process.poll()}):\n{words}")
