"""Nobody gets a byte of another's: buffers that all connections share, turns that leave a rest, ends in the middle.

Each transfer has a pattern of its own, by which any eight bytes of it say whose they are and where they belong.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

import pytest

from gateway.upstream.connection import UpstreamConnection
from tests.support.backend import Arrived, Backend, Connection, answer
from tests.support.client import Client
from tests.support.forms import SUBMITTED, form, pdf
from tests.support.gateway import Running, Start, request, submit
from tests.support.jobs import Used, comes_to

TENANTS: Final = 4
TRANSFERS: Final = 14
SIZES: Final = (40, 4_000, 16_384, 70_000, 300_008, 600_000)
ENVIRON: Final = {f"KEY_{tenant}": f"canary-key-of-tenant-{tenant}-61c0" for tenant in range(TENANTS)}
KEYS: Final = [{"id": f"t{tenant}", "secret": {"env": f"KEY_{tenant}"}} for tenant in range(TENANTS)]
KERNELS: Final = 8192  # bytes that the kernel keeps for each end, and it doubles that
_WORD: Final = struct.Struct(">HHI")


def pattern(tenant: int, number: int, size: int) -> bytes:
    """The bytes of one transfer: words that name it, and count."""
    return b"".join(_WORD.pack(tenant, number, place) for place in range(-(-size // _WORD.size)))[:size]


def is_its_own(got: bytes, expected: bytes) -> None:
    """Asserts that what came is a transfer's, as far as it came; else says where, and whose it is."""
    if got != expected[: len(got)]:
        place = next(
            place for place in range(0, len(got), 8) if got[place : place + 8] != expected[place : place + 8]
        )
        raise AssertionError(f"at {place} of {len(expected)}: {got[place : place + 16].hex(' ', 4)}")


def size_of(tenant: int, number: int) -> int:
    return SIZES[(tenant + number) % len(SIZES)]


class Patterns:
    """The container: checks each upload by its target or its form, and answers each download with its pattern."""

    def __init__(self) -> None:
        self.whole = 0
        self.started = 0

    async def __call__(self, connection: Connection) -> None:
        dice = Random(len(connection.backend.connections))  # noqa: S311 -- it must be repeatable
        while True:
            arrived = await connection.request()
            if arrived.method == b"GET":
                await self._answer(connection, arrived, dice)
                continue
            self.whole += 1
            if arrived.target == b"/api/v1/marker":
                self.started += 1
                connection.send(answer(b'{"success": true, "request_id": "s-%d"}' % self.started))
            else:
                is_its_own(arrived.body, pattern(*numbers(arrived)))
                assert len(arrived.body) == numbers(arrived)[2]
                connection.send(answer(arrived.body[:40]))

    async def _answer(self, connection: Connection, arrived: Arrived, dice: Random) -> None:
        _, tenant, number = map(int, arrived.target.rpartition(b"/job-")[2].split(b"-"))
        body = pattern(tenant, number, size_of(tenant, number))
        if dice.random() < 0.5:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            for piece in cut(body, dice):
                await connection.sent(piece)
                await pauses(dice)
        else:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in cut(body, dice):
                await connection.sent(b"%x\r\n%b\r\n" % (len(piece), piece))
                await pauses(dice)
            connection.send(b"0\r\n\r\n")


def numbers(arrived: Arrived) -> tuple[int, int, int]:
    """Tenant, number and size, by the key that the gateway names; the target says the same."""
    tenant, number = map(int, arrived.target.rpartition(b"/")[2].split(b"-"))
    assert arrived.value(b"x-gateway-key-id") == b"t%d" % tenant
    return tenant, number, size_of(tenant, number)


def cut(body: bytes, dice: Random) -> Iterator[bytes]:
    place = 0
    while place < len(body):
        size = dice.choice((1, 900, 16_384, 40_000, 250_000))
        yield body[place : place + size]
        place += size


async def pauses(dice: Random) -> None:
    """Lets some turns of the loop pass, or none."""
    for _ in range(dice.choice((0, 0, 1, 5))):
        await asyncio.sleep(0)


async def up(gateway: Running, tenant: int, number: int, dice: Random) -> None:
    """Uploads; one of four leaves in the middle, and the next one begins at once on another connection."""
    body = pattern(tenant, number, size_of(tenant, number))
    head = request(
        "POST", f"/api/v1/plain/{tenant}-{number}", f"Content-Length: {len(body)}", key=ENVIRON[f"KEY_{tenant}"]
    )
    leaves_at = dice.randrange(len(body)) if dice.random() < 0.25 else len(body)
    client = await gateway.connect()
    await client.send_all(head)
    for piece in cut(body[:leaves_at], dice):
        await client.send_all(piece)
        await pauses(dice)
    if leaves_at == len(body):
        response = await client.response(b"POST")
        assert (response.status, response.body) == (200, body[:40])
    client.abort()


async def down(gateway: Running, tenant: int, number: int, dice: Random) -> None:
    """Downloads two results on one connection; one of four leaves in the middle."""
    client = await gateway.connect(receive_buffer=dice.choice((8192, 262_144)))
    for turn in range(2):
        job = f"job-{turn}-{tenant}-{number}"
        gateway.own(job, owner=f"key:t{tenant}")
        expected = pattern(tenant, number, size_of(tenant, number))
        client.send(request("GET", f"/api/v1/marker/{job}", key=ENVIRON[f"KEY_{tenant}"]))
        if turn and dice.random() < 0.5:
            is_its_own(await a_part(client), expected)
            break
        await pauses(dice)
        response = await client.response()
        is_its_own(response.body, expected)
        assert len(response.body) == len(expected)
    client.abort()


async def a_part(client: Client) -> bytes:
    """What has come of an answer with a Content-Length behind its head; nothing of one in chunks."""
    head, _, part = (await client.read_some()).partition(b"\r\n\r\n")
    return b"" if b"chunked" in head else part


async def submits(gateway: Running, tenant: int, number: int, dice: Random) -> None:
    """Submits a document of as many pages as the tenant's number, and one more: it is kept until it is counted."""
    body = form(pdf(tenant + 1), page_note="x" * dice.randrange(3000))
    client = await gateway.connect()
    for piece in cut(submit(body, target=SUBMITTED.target, key=ENVIRON[f"KEY_{tenant}"], chunked=False), dice):
        await client.send_all(piece)
        await pauses(dice)
    assert (await client.response(b"POST")).status == 200, number
    client.abort()


def note(gateway: Running, fault: dict[str, Any]) -> None:
    """Notes what went wrong, but for the container's: asyncio's TLS calls it a fault when a client gives up."""
    if "incoming connection" not in fault["message"]:
        gateway.errors.append(fault)


def sends_little(sock: socket.socket) -> None:
    """Lets the kernel take little at once: the rest of what is written waits, as it is or as a copy."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNELS)


class SendingLittle(UpstreamConnection):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sends_little(transport.get_extra_info("socket"))


@asynccontextmanager
async def serving(backend: Backend, certificates: Path, scheme: str) -> AsyncIterator[str]:
    """The same container once more, with or without TLS, and with little room for what comes; gives its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    trusting = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNELS)
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(backend), sock=listening, ssl=context if scheme == "https" else None
    )
    try:
        with patch("gateway.aio.shared_context.bounded_context", return_value=trusting):
            yield f"{scheme}://localhost:{listening.getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nobody_gets_a_byte_of_another_s(
    scheme: str, start: Start, backend: Backend, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns are short, and the kernel takes little: nearly each read and each write leaves something for later."""
    monkeypatch.setattr("gateway.aio.turn.MAX_BYTES", 50_000)
    monkeypatch.setattr("gateway.aio.iteration.MAX_SECONDS", 0.0005)
    backend.script = container = Patterns()
    monkeypatch.setattr("gateway.listener.way_out.unlimit_unsent", sends_little)
    monkeypatch.setattr("gateway.upstream.pool.UpstreamConnection", SendingLittle)
    async with serving(backend, certificates, scheme) as url:
        gateway = await start(environ=ENVIRON, keys=KEYS, upstream={"url": url})
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: note(gateway, fault))
        dice = Random(15)  # noqa: S311 -- it must be repeatable
        for begin in range(0, TRANSFERS, 7):
            async with asyncio.TaskGroup() as tasks:
                for number in range(begin, begin + 7):
                    for tenant in range(TENANTS):
                        for transfer in (up, down, *([submits] if number == begin else [])):
                            own = Random(dice.random())  # noqa: S311 -- likewise
                            tasks.create_task(transfer(gateway, tenant, number, own))
        for tenant in range(TENANTS):
            times = TRANSFERS // 7
            pages = times * (tenant + 1)
            await comes_to(gateway, Used(0, pages, pages, times), ENVIRON[f"KEY_{tenant}"])
        assert container.whole > TENANTS * TRANSFERS // 2
        assert all(connection.garbled is None for connection in backend.connections)
        await gateway.end()
