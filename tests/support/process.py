"""Real processes, as an operator sees them: lines of output, signals, exit codes. Synchronous; nothing sleeps."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import yaml

from tests.support import forkserver
from tests.support.forms import FORM_TYPE, form

DEADLINE: Final = 30.0
KEY: Final = "canary-key-of-processes-3c1d9a"
ROOT: Final = Path(__file__).parent.parent.parent
GATEWAY: Final = (sys.executable, "-m", "gateway")
_PAUSE: Final = 0.02


def eventually(holds: Callable[[], Any], within: float = DEADLINE) -> Any:
    """Looks again and again for a fact that nobody announces; gives what was found."""
    deadline = time.monotonic() + within
    rest = threading.Event()
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s")
        rest.wait(_PAUSE)
    return found


class Process:
    """A running command. Its output is read by a thread, so that it never waits for us.

    One of this project's programs is forked, where `is_forked` does not ask for a start of Python of its own.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        is_forked: bool = True,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY__")}
        env = {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(environ or {})}
        self._process: forkserver.Forked | subprocess.Popen[str]
        if is_forked and forkserver.fits(command, env):
            self._process = forkserver.start(command, cwd, env)
        else:
            self._process = _started(command, cwd, env)
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            for pid in (*descendants(self.pid), self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def output(self) -> str:
        """All that it wrote until now."""
        return "\n".join(self.lines)

    def line(self, holds: Callable[[str], bool], within: float = DEADLINE) -> str:
        """Waits for a line of the output."""
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for line in self.lines:
                    if holds(line):
                        return line
                left = deadline - time.monotonic()
                if self._has_ended or left < 0:
                    raise AssertionError(f"no such line; it wrote:\n{self.output}")
                self._changed.wait(left)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to it alone."""
        self._process.send_signal(number)

    def press_ctrl_c(self) -> None:
        """Sends what a terminal sends: SIGINT to its whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def exit_code(self, within: float = DEADLINE) -> int:
        """Waits for its end, and for all its output."""
        code = self._process.wait(within)
        self._reader.join(within)
        return code

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def memory(self, field: str) -> int:
        """VmRSS or VmHWM (the highest so far), in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(field)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


def _started(command: tuple[str, ...], cwd: Path | None, environ: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 -- commands of ours
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(*arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs a gateway command to its end: exit code and all output."""
    with Process((*GATEWAY, *arguments), cwd, environ) as process:
        return process.exit_code(), process.output


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ProcessLookupError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                child = int(status.parent.name)
                found += [child, *descendants(child)]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def taken_port(address: str = "127.0.0.1") -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listening:
        listening.bind((address, 0))
        listening.listen()
        yield listening.getsockname()[1]


def configure(directory: Path, certificates: Path, upstream: str, **sections: Any) -> Path:
    """Writes a configuration for processes: free ports, a fast drain, the key KEY; sections replace what is here."""
    document: dict[str, Any] = {
        "listen": {"address": "127.0.0.1", "port": 0},
        "tls": {
            "certificate": str(certificates / "server.pem"),
            "private_key": str(certificates / "server.key"),
        },
        "network": {"allow": ["127.0.0.0/8"]},
        "upstream": {"url": upstream},
        "keys": [{"id": "ci", "secret": {"file": str(directory / "key.txt")}, "scopes": ["admin"]}],
        "admin": {"port": 0},
        "shutdown": {"drain_delay": "200ms", "drain_timeout": "20s"},
        **sections,
    }
    (directory / "key.txt").write_text(KEY + "\n")
    path = directory / "gateway.yaml"
    path.write_text(yaml.dump(document, Dumper=yaml.CSafeDumper))
    return path


class Served(NamedTuple):
    """A gateway that listens."""

    process: Process
    port: int
    admin_port: int

    def admin(self, path: str) -> tuple[int, str]:
        """Asks the admin listener: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            with connection.getresponse() as response:  # who ends meanwhile leaves it unread
                return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def serving(path: Path, environ: Mapping[str, str] | None = None, *, is_forked: bool = True) -> Iterator[Served]:
    """Runs `gateway serve` until the end of the context."""
    command = (*GATEWAY, "serve", "--config", str(path))
    with Process(command, path.parent, environ, is_forked=is_forked) as process:
        event = json.loads(process.line(lambda line: '"listening"' in line))
        yield Served(process, event["port"], event["admin_port"])


def trusting(certificates: Path) -> ssl.SSLContext:
    """A client's context that trusts the development CA alone."""
    return ssl.create_default_context(cafile=certificates / "ca.pem")


def call(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes]:
    """One request with KEY, and a form or none: status and body."""
    headers = {"X-API-Key": KEY} if body is None else {"X-API-Key": KEY, "Content-Type": FORM_TYPE}
    connection.request(method, path, body=body, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


def start(connection: http.client.HTTPConnection, job: str) -> None:
    """Submits a job that `Upstream` gives this id: from then on it is KEY's."""
    headers = {"X-API-Key": KEY, "Content-Type": FORM_TYPE, "X-Job": job}
    connection.request("POST", "/api/v1/marker", body=form(), headers=headers)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["request_id"]) == (200, job)


class _Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Upstream"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.server.began.set()
        if self._swallow():
            self._answer()
        else:
            self.close_connection = True

    def _swallow(self) -> bool:
        """Reads the body, in chunks as submits come; tells whether it was whole."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self._swallow_piece(int(self.headers.get("Content-Length", "0")))
        while line := self.rfile.readline(64).strip():
            size = int(line, 16)
            if not self._swallow_piece(size + 2):
                return False
            if not size:
                return True
        return False

    def _swallow_piece(self, left: int) -> bool:
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                return False
            left -= len(piece)
        return True

    def _answer(self) -> None:
        named = {"request_id": self.headers["X-Job"]} if "X-Job" in self.headers else {}
        body = json.dumps({"name": self.server.name, **named}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name that http.server gives it
        """Says nothing."""


class Upstream(ThreadingHTTPServer):
    """A plain upstream in this process: answers 200 with its name; `began` is set by the head of a POST.

    Its answers name no job, unless a header X-Job asks for one.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str = "container") -> None:
        self.name = name
        self.began = threading.Event()
        super().__init__(("127.0.0.1", 0), _Upstream)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that ends resets its connections: no news."""
