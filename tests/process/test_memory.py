"""Nothing is held whole: eight uploads of 200 MB and eight downloads of 50 MB at once, and memory stays flat.

At first nobody takes anything: neither the upstream the uploads nor the clients the downloads, so that what a gateway
without back-pressure would hold, it would hold. Once nothing moves any more, all is let through and counted.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.forms import FORM_TYPE, form, pdf
from tests.support.process import DEADLINE, KEY, Served, configure, eventually, serving, start, trusting

_MB: Final = 1024 * 1024
_UPLOAD: Final = 200 * _MB
_DOWNLOAD: Final = 50 * _MB
_EACH: Final = 8
_DOCUMENT: Final = pdf(1)  # of all documents the one that is spooled for its pages
_GROWTH: Final = 60 * _MB
_BLOCK: Final = bytes(_MB)
_STILL: Final = 0.5


class Gate:
    """Closed at first; opens once nothing has moved for a while. `moved` counts bytes."""

    def __init__(self) -> None:
        self.moved = 0
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._open = threading.Event()

    def count(self, size: int) -> None:
        with self._lock:
            self.moved += size

    def wait(self) -> None:
        assert self._open.wait(DEADLINE)

    def open_when_still(self) -> None:
        seen, since = 0, time.monotonic()

        def is_still() -> bool:
            nonlocal seen, since
            if self.moved != seen:
                seen, since = self.moved, time.monotonic()
            return seen > 0 and time.monotonic() - since > _STILL

        eventually(is_still)
        self._open.set()


def serve_one(connection: socket.socket, gate: Gate) -> None:
    """An upstream that takes an upload once the gate opens, or sends a download as fast as it is taken.

    A submit that asks for a job by X-Job gets it at once.
    """
    with connection, suppress(ConnectionError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        if b"X-Job: job\r\n" in head:
            while not head.endswith(b"\r\n0\r\n\r\n"):
                head += connection.recv(65536)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"request_id": "job"}\n')
            return
        if not head.startswith(b"POST"):
            size = _DOWNLOAD if b"/job" in head else 0
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // _MB):
                connection.sendall(_BLOCK)
                gate.count(_MB)
            return
        gate.wait()
        into = memoryview(bytearray(_MB))
        end = head[-7:]
        while end != b"\r\n0\r\n\r\n":  # zeros are sent, and the form's end behind them: nothing else looks so
            read = connection.recv_into(into)
            if not read:
                return
            end = (end + bytes(into[max(0, read - 7) : read]))[-7:]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@contextmanager
def raw_upstream(gate: Gate) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=serve_one, args=(connection, gate), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@contextmanager
def connected(served: Served, certificates: Path) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", served.port), DEADLINE) as raw,
        trusting(certificates).wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        yield tls


def own(served: Served, certificates: Path) -> None:
    """Lets KEY have the job that is downloaded."""
    context = trusting(certificates)
    with closing(http.client.HTTPSConnection("127.0.0.1", served.port, timeout=DEADLINE, context=context)) as client:
        start(client, "job")


def upload(served: Served, certificates: Path, gate: Gate) -> None:
    with connected(served, certificates) as tls:
        begin, end = form(_DOCUMENT).split(_DOCUMENT.content)
        length = len(begin) + len(_DOCUMENT.content) + _UPLOAD + len(end)
        head = f"POST /api/v1/marker HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: {length}\r\n"
        head += f"Content-Type: {FORM_TYPE}\r\n\r\n"
        tls.sendall(head.encode() + begin + _DOCUMENT.content)
        for _ in range(_UPLOAD // _MB):
            tls.sendall(_BLOCK)
            gate.count(_MB)
        tls.sendall(end)
        answer = tls.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:100]


def download(served: Served, certificates: Path, gate: Gate) -> None:
    with connected(served, certificates) as tls:
        request = f"GET /api/v1/marker/job HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\n\r\n"
        tls.sendall(request.encode())
        gate.wait()
        into = memoryview(bytearray(_MB))
        read = 0
        while size := tls.recv_into(into):
            read += size
        assert _DOWNLOAD < read < _DOWNLOAD + 4096, read


def test_memory_stays_flat(tmp_path: Path, certificates: Path) -> None:
    gate = Gate()

    def kept(work: Callable[[Served, Path, Gate], None], served: Served) -> None:
        try:
            work(served, certificates, gate)
        except Exception as error:  # noqa: BLE001 -- told to the test below
            gate.failures.append(repr(error))

    with (
        raw_upstream(gate) as url,
        serving(configure(tmp_path, certificates, url, jobs={"watch": False}), is_forked=False) as served,
    ):
        with connected(served, certificates) as tls:  # what a first request allocates is no growth
            tls.sendall(b"GET /health_check HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert tls.recv(100).startswith(b"HTTP/1.1 200 ")
        before = served.process.memory("VmRSS")
        own(served, certificates)
        works = [upload] * _EACH + [download] * _EACH
        threads = [threading.Thread(target=kept, args=(work, served), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        gate.open_when_still()
        for thread in threads:
            thread.join(DEADLINE * 2)
        assert gate.failures == []
        assert not any(thread.is_alive() for thread in threads)
        growth = served.process.memory("VmHWM") - before
        assert growth < _GROWTH, f"{growth / _MB:.0f} MB more than the {before / _MB:.0f} MB before"
