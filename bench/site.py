"""What all peers of a run share: the work folder, the certificate, the key, the backend behind them."""

import contextlib
import hashlib
import secrets
import socket
import string
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import certificate
from bench.process import NotRunningError, free_port, running

CONFIGS = Path(__file__).parent / "configs"
SENTENCE = r"The quarterly figures in table 3 were restated; see \"Notes\" for details.\n"


class Template(string.Template):
    """A template whose places are @{name} and nothing else, since the configurations use $ and @ themselves."""

    pattern = r"@\{(?P<braced>[a-z_0-9]+)\}|(?P<named>(?!))|(?P<escaped>(?!))|(?P<invalid>(?!))"  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Site:
    """The common ground of a run."""

    folder: Path
    key: str
    upstream: int
    container: int  # the backend's process
    postgres: Path | None = None  # where a PostgreSQL has its socket, if there is one

    def render(self, name: str, folder: Path, **places: object) -> Path:
        """Fills in a configuration for one peer."""
        common = {
            "dir": folder,
            "key": self.key,
            "key_sha256": hashlib.sha256(self.key.encode()).hexdigest(),
            "upstream": self.upstream,
            "certificate": self.folder / "server.pem",
            "private_key": self.folder / "server.key",
            "pair": self.folder / "pair.pem",
            "keys": self.folder / "keys.map",
        }
        target = folder / name
        target.write_text(Template((CONFIGS / name).read_text()).substitute(common | places))
        return target


@contextlib.contextmanager
def opened(folder: Path, download_size: int, keys: int, postgres: Path | None = None) -> Iterator[Site]:
    """Makes certificate, keys and result, and runs the backend for as long as the site is open."""
    certificate.write(folder)
    key = secrets.token_hex(16)
    (folder / "keys.map").write_text(key_map(key, keys))
    result = folder / "result.json"
    result.write_bytes(large_result(download_size))
    port = free_port()
    command = [sys.executable, "-m", "bench.backend", str(port), str(result)]
    with running(command, folder / "backend.log") as process:
        wait_for(port)
        yield Site(folder, key, port, process.pid, postgres)


def key_map(key: str, count: int) -> str:
    """The keys that a gateway has in its ledger, as a map of nginx."""
    return "".join(f'"{name}" 1;\n' for name in (key, *(f"other-{number}" for number in range(count - 1))))


def large_result(size: int) -> bytes:
    """A finished job's answer: a fifth of it text, the rest one image in base64."""
    text = SENTENCE * (size // 5 // len(SENTENCE))
    head = (
        f'{{"status":"complete","success":true,"error":null,"page_count":10,"markdown":"{text}","images":{{"a.png":"'
    )
    return (head + "iVBORw0KGgo" * ((size - len(head)) // 11) + '"}}').encode()


def wait_for(port: int) -> None:
    """Waits until the backend accepts."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        pause(0.05)
    raise NotRunningError("the backend did not start")


def pause(seconds: float) -> None:
    """Sleeps: the harness has no loop to block."""
    time.sleep(seconds)  # noqa: TID251
