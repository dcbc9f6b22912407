"""What the admin listener's connection takes from its socket: no more than it has turns for."""

import asyncio
import socket
from collections import deque
from contextlib import suppress
from ipaddress import ip_address
from unittest.mock import patch

import pytest
from aiohttp import web

from gateway.admin.connection import KEEPS, AdminConnection
from gateway.listener.backlog import Backlog
from gateway.model.identity import Peer
from tests.support.iteration import iteration_now
from tests.support.waiting import eventually
from tests.support.work import Work

ONE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("is_authorized", [True, False])
@pytest.mark.parametrize(("size", "most"), [(1_000_000, 1_000_000), (5_000_000, 400_000)], ids=["little", "much"])
async def test_of_a_refused_body_of_stated_length_little_is_read_to_its_end_and_much_is_dropped(
    size: int, most: int, is_authorized: bool
) -> None:
    """As at the public listener: by bytes, and not by time alone."""

    async def answer(asked: web.BaseRequest) -> web.Response:
        asked[KEEPS] = is_authorized
        return web.Response(status=405)

    server, loop, parsed = web.Server(answer), asyncio.get_running_loop(), Work()
    ended = deque[AdminConnection]()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    peer = Peer(ip_address("127.0.0.1"), 7)
    with theirs, patch.object(Backlog, "take", parsed.counting(Backlog.take, lambda _, most: most)):
        await loop.connect_accepted_socket(
            lambda: AdminConnection(server, loop, peer, ended.append, iteration_now()), ours
        )
        await loop.sock_sendall(theirs, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        assert (await loop.sock_recv(theirs, 12)) == b"HTTP/1.1 405"
        with suppress(ConnectionError):
            for _ in range(size // 50_000):
                await loop.sock_sendall(theirs, bytes(50_000))
        theirs.shutdown(socket.SHUT_WR)
        await eventually(lambda: bool(ended))
        assert parsed.total <= most + 100_000
    await server.shutdown()


async def test_what_is_sent_behind_a_request_that_takes_long_waits_in_the_kernel() -> None:
    """aiohttp keeps so many heads, and then pauses: turns that go on meanwhile do not resume the socket."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def answer(asked: web.BaseRequest) -> web.Response:
        assert isinstance(asked.protocol, AdminConnection)
        asked.protocol.begin_exchange(asked.content)
        began.set()
        await may_end.wait()
        return web.Response()

    server, loop, taken = web.Server(answer), asyncio.get_running_loop(), Work()
    peer = Peer(ip_address("127.0.0.1"), 7)
    ended = deque[AdminConnection]()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs, patch.object(Backlog, "add", taken.counting(Backlog.add, lambda _, data: len(data))):
        await loop.connect_accepted_socket(
            lambda: AdminConnection(server, loop, peer, ended.append, iteration_now()), ours
        )
        theirs.send(ONE)
        await began.wait()
        for _ in range(500):
            with suppress(BlockingIOError):
                theirs.send(ONE * 20_000)
            await asyncio.sleep(0)
        assert len(ONE) < taken.total < 1_000_000
        may_end.set()
        await eventually(lambda: bool(ended))
    await server.shutdown()


async def test_a_head_that_is_too_large_is_refused_before_it_is_whole() -> None:
    """aiohttp bounds its lines and their number alone: 256 strangers held 390 MB."""
    server, loop, parsed = web.Server(never_asked), asyncio.get_running_loop(), Work()
    peer = Peer(ip_address("127.0.0.1"), 7)
    ended = deque[AdminConnection]()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs, patch.object(Backlog, "take", parsed.counting(Backlog.take, lambda _, most: most)):
        await loop.connect_accepted_socket(
            lambda: AdminConnection(server, loop, peer, ended.append, iteration_now()), ours
        )
        with suppress(ConnectionError):
            await loop.sock_sendall(theirs, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
            for number in range(90):
                await loop.sock_sendall(theirs, b"H%d: %b\r\n" % (number, b"a" * 8000))
        assert (await loop.sock_recv(theirs, 12)) == b"HTTP/1.1 431"
        await eventually(lambda: bool(ended))
        assert parsed.total <= 120_000
    await server.shutdown()


async def test_what_is_too_large_behind_a_request_ends_the_connection_behind_its_answer() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def answer(asked: web.BaseRequest) -> web.Response:
        assert isinstance(asked.protocol, AdminConnection)
        asked.protocol.begin_exchange(asked.content)
        began.set()
        await may_end.wait()
        asked[KEEPS] = True
        return web.Response(text="whole")

    server, loop, parsed = web.Server(answer), asyncio.get_running_loop(), Work()
    peer = Peer(ip_address("127.0.0.1"), 7)
    ended = deque[AdminConnection]()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs, patch.object(Backlog, "take", parsed.counting(Backlog.take, lambda _, most: most)):
        await loop.connect_accepted_socket(
            lambda: AdminConnection(server, loop, peer, ended.append, iteration_now()), ours
        )
        await loop.sock_sendall(theirs, ONE)
        await began.wait()
        await loop.sock_sendall(theirs, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        for number in range(90):
            await loop.sock_sendall(theirs, b"H%d: %b\r\n" % (number, b"a" * 8000))
        may_end.set()
        await eventually(lambda: bool(ended))
        answered = await loop.sock_recv(theirs, 100_000)
        assert answered.count(b"HTTP/1.1 ") == 1
        assert answered.endswith(b"whole")
        assert parsed.total <= 150_000
    await server.shutdown()


async def never_asked(_: web.BaseRequest) -> web.Response:
    raise AssertionError
