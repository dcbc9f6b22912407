"""The load that wrk cannot make: uploads, downloads, full handshakes, held connections.

Run as `python -m bench.client ERRAND` with an Errand as JSON; it prints one line of JSON when done. Blocking sockets
in a few threads: OpenSSL and the kernel do the work and the interpreter's lock is free meanwhile.
"""

import dataclasses
import json
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection

from bench import pdf

BLOCK = 1 << 20
BOUNDARY = "bench-boundary-7f1c5e"


@dataclasses.dataclass(frozen=True, slots=True)
class Errand:
    """What to do, and the bounds that end it: so many of them, so many seconds."""

    do: str
    port: int
    key: str
    path: str
    streams: int
    count: int
    seconds: float
    size: int = 0
    filename: str = "bench.docx"
    accounts: int = 0


def trusting() -> ssl.SSLContext:
    """The bench trusts itself."""
    return ssl._create_unverified_context()  # noqa: S323, SLF001 - all of it on 127.0.0.1


def connect(errand: Errand) -> HTTPSConnection:
    """Makes a connection that never resumes a session."""
    return HTTPSConnection("127.0.0.1", errand.port, timeout=60, context=trusting())


def exchange(link: HTTPConnection, errand: Errand, **extra: str) -> int:
    """GETs the errand's path on the connection and returns the size of the answer."""
    ask(link, errand, **extra)
    return swallow(link)


def ask(link: HTTPConnection, errand: Errand, **extra: str) -> None:
    """Sends a GET for the errand's path."""
    link.request("GET", errand.path, headers={"X-API-Key": errand.key, **extra})


def answer(link: HTTPConnection) -> HTTPResponse:
    """Takes the head of an answer; all but a 200 is an error."""
    response = link.getresponse()
    if response.status != 200:
        raise ConnectionError(f"status {response.status}: {response.read(200)!r}")
    return response


def swallow(link: HTTPConnection) -> int:
    """Takes an answer and returns its size."""
    return drain(answer(link))


def drain(response: HTTPResponse) -> int:
    """Reads an answer to its end and returns its size."""
    with response:
        buffer, total = bytearray(BLOCK), 0
        while taken := response.readinto(buffer):
            total += taken
    return total


def form(errand: Errand) -> tuple[bytes, int, bytes]:
    """The form around so much filler: the file first, the options last, as the SDK sends them."""
    before, behind = pdf.envelope(errand.size) if errand.filename.endswith(".pdf") else (b"", b"")
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{errand.filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="page_range"\r\n\r\n0-9\r\n--{BOUNDARY}--\r\n'
    return head.encode() + before, errand.size - len(before + behind), behind + tail.encode()


def blocks(head: bytes, filler: int, tail: bytes) -> Iterator[bytes]:
    """The form, block by block, with filler that looks compressed."""
    block = random.Random(0).randbytes(min(BLOCK, filler))  # noqa: S311 - filler
    yield head
    for start in range(0, filler, BLOCK):
        yield block[: min(BLOCK, filler - start)]
    yield tail


def submit(link: HTTPSConnection, errand: Errand) -> int:
    """Sends one form and returns its size; the answer is still to be read."""
    head, filler, tail = form(errand)
    size = len(head) + filler + len(tail)
    headers = {
        "X-API-Key": errand.key,
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(size),
    }
    link.request("POST", errand.path, body=blocks(head, filler, tail), headers=headers)
    return size


def upload(link: HTTPSConnection, errand: Errand) -> int:
    """Submits one form and reads the answer."""
    size = submit(link, errand)
    swallow(link)
    return size


def repeat(errand: Errand) -> tuple[int, int]:
    """Repeats on one keep-alive connection until this stream's share or the time is used up: (times, bytes)."""
    deadline, times, total = time.monotonic() + errand.seconds, 0, 0
    link, once = connect(errand), once_of(errand)
    while times < errand.count // errand.streams and time.monotonic() < deadline:
        total += once(link)
        times += 1
    link.close()
    return times, total


def fresh(errand: Errand) -> int:
    """One full handshake, one request, and goodbye."""
    link = connect(errand)
    total = exchange(link, errand, Connection="close")
    link.close()
    return total


class Resumption:
    """New connections, of which each resumes the session of the one before it."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._context = trusting()
        self._session: ssl.SSLSession | None = None
        self._is_first = True

    def again(self) -> int:
        """One handshake, one request, and goodbye.

        Raises:
            ConnectionError: the session was not resumed.
        """
        raw = socket.create_connection(("127.0.0.1", self._errand.port), 60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._context.wrap_socket(raw, server_hostname="127.0.0.1", session=self._session) as wrapped:
            if not (self._is_first or wrapped.session_reused):
                raise ConnectionError("a session was not resumed")
            link = HTTPConnection("127.0.0.1", self._errand.port)
            link.sock = wrapped
            ask(link, self._errand, Connection="close")
            response = answer(link)
            self._session, self._is_first = wrapped.session, False  # gone when the answer is read
            return drain(response)


def hold(errand: Errand) -> tuple[int, int]:
    """Opens the connections, uses each once, and keeps them until standard input ends."""
    links = [connect(errand) for _ in range(errand.count)]
    total = sum(exchange(link, errand) for link in links)
    print(json.dumps({"held": len(links)}), flush=True)
    sys.stdin.read()
    return len(links), total


def run(errand: Errand) -> tuple[int, int]:
    """Does the errand in as many threads as it has streams: (times, bytes)."""
    if errand.do == "hold":
        return hold(errand)
    with ThreadPoolExecutor(errand.streams) as pool:
        done = list(pool.map(lambda number: repeat(own(errand, number)), range(errand.streams)))
    return sum(times for times, _ in done), sum(total for _, total in done)


def own(errand: Errand, number: int) -> Errand:
    """A stream's own errand: where it is of many accounts, each stream has another one's key (see ledger.py)."""
    return dataclasses.replace(errand, key=f"other-{number % errand.accounts}") if errand.accounts else errand


def once_of(errand: Errand) -> Callable[[HTTPSConnection], int]:
    """What a stream repeats; some leave the connection alone that it is given."""
    resumption = Resumption(errand)
    once: dict[str, Callable[[HTTPSConnection], int]] = {
        "upload": lambda link: upload(link, errand),
        "download": lambda link: exchange(link, errand),
        "handshake": lambda _: fresh(errand),
        "resumed": lambda _: resumption.again(),
    }
    return once[errand.do]


if __name__ == "__main__":
    began = time.monotonic()
    count, size = run(Errand(**json.loads(sys.argv[1])))
    print(json.dumps({"count": count, "bytes": size, "seconds": time.monotonic() - began}))
