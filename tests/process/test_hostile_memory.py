"""Whatever strangers send, memory does not grow with it: 15,000 hostile requests, each on a connection of its own.

A quarter of them outside CI. And a connection of a stranger's holds little, whatever he sends and does not read.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import pytest
import uvloop

from tests.support.process import KEY, Served, Upstream, configure, serving
from tests.support.pure import examples

_MB: Final = 1024 * 1024
_REQUESTS: Final = examples(15_000)
_AT_ONCE: Final = 16
_GROWTH: Final = 40 * _MB
_ANSWERED: Final = 60.0
_HOST: Final = b"Host: localhost\r\n"
_HOSTILE: Final = (
    b"GET /api/v1/marker/unknown HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /../x HTTP/1.1\r\n" + _HOST + b"\r\n",
    bytes(300) + b"\r\n\r\n",
    b"GET /api/v1/marker/x HTTP/1.1\r\n" + _HOST + b"X-API-Key: wrong\r\n\r\n",
    b"POST /api/v1/marker HTTP/1.1\r\n" + _HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/marker HTTP/1.1\r\n" + _HOST + b"X-API-Key: " + KEY.encode()
    + b"\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length: 66000\r\n\r\n" + b"--X\r\nother" * 6600,
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"".join(b"H%d: x\r\n" % number for number in range(150)) + b"\r\n",
)  # fmt: skip


def careless() -> ssl.SSLContext:
    """A client's that looks at no certificate: that is the clients' work, and no test here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def send(port: int, tls: ssl.SSLContext, request: bytes) -> bool:
    """One of them; whether it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost")
    answer = b""
    with suppress(ConnectionError, ssl.SSLError):
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(65536), _ANSWERED)
    writer.transport.abort()
    return answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))


async def attack(port: int, tls: ssl.SSLContext, count: int) -> int:
    """So many of them, some at once; how many were answered."""
    requests = islice(cycle(_HOSTILE), count)

    async def some() -> int:
        return sum([await send(port, tls, request) for request in requests])

    return sum(await asyncio.gather(*(some() for _ in range(_AT_ONCE))))


@pytest.mark.timeout(900)  # a minute where nothing else runs
def test_memory_does_not_grow_with_hostile_requests(tmp_path: Path, upstream: Upstream, certificates: Path) -> None:
    with serving(configure(tmp_path, certificates, upstream.url), is_forked=False) as served:
        before = served.process.memory("VmRSS")
        answered = uvloop.run(attack(served.port, careless(), _REQUESTS))
        growth = served.process.memory("VmRSS") - before
    assert answered > _REQUESTS * 0.8  # of a body that nobody reads the answer may be lost with its connection
    assert growth < _GROWTH, f"{growth / _MB:.0f} MB more than the {before / _MB:.0f} MB before"


_KB: Final = 1024
_STRANGERS: Final = 40
_MOST_OF_ONE: Final = 200 * _KB  # docs/sizing.md plans with it
_SILENT: Final = 3.0
_NO_ROUTE: Final = b"GET /x HTTP/1.1\r\n" + _HOST + b"\r\n"
_LARGE_HEAD: Final = b"GET /x HTTP/1.1\r\n" + _HOST + b"".join(
    b"H%d: " % number + b"a" * 7000 + b"\r\n" for number in range(9)
)  # fmt: skip


async def press(port: int, tls: ssl.SSLContext, sent: Iterable[bytes]) -> asyncio.StreamWriter:
    """A connection that reads nothing and sends all of this, or as much of it as is taken."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    _, writer = await asyncio.open_connection(sock=plain, ssl=tls, server_hostname="localhost")
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's
    for piece in sent:
        writer.write(piece)
    return writer


async def grown(served: Served, sent: list[bytes]) -> int:
    """Bytes of the gateway's memory that each of many such connections takes, once it takes no more of them."""
    before = served.process.memory("VmRSS")
    writers = [await press(served.port, careless(), sent) for _ in range(_STRANGERS)]
    most, left = before, _SILENT
    while left > 0:
        await asyncio.sleep(0.5)
        now = served.process.memory("VmRSS")
        left, most = (_SILENT if now > most + _MB // 4 else left - 0.5), max(now, most)
    for writer in writers:
        writer.transport.abort()
    return (most - before) // _STRANGERS


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "sent",
    [[_NO_ROUTE * 60_000], [_LARGE_HEAD + b"\r\n"] * 40, [_NO_ROUTE * 140, _LARGE_HEAD]],
    ids=["requests", "large-heads", "requests-and-half-a-head"],
)
def test_a_stranger_who_reads_nothing_holds_little(
    tmp_path: Path, upstream: Upstream, certificates: Path, sent: list[bytes]
) -> None:
    patient = {"head_timeout": "60s", "send_idle_timeout": "120s"}
    listen = {"address": "127.0.0.1", "port": 0, **patient}
    settings = configure(tmp_path, certificates, upstream.url, listen=listen)
    with serving(settings, is_forked=False) as served:
        uvloop.run(attack(served.port, careless(), 200))  # what is made once
        held = uvloop.run(grown(served, sent))
    assert held < _MOST_OF_ONE, f"{held // _KB} KB"
