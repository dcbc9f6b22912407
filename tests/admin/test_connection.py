"""What the admin listener's connection takes from its socket: no more than it has turns for."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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


class Slow:
    """A server whose first answer waits; `asked` are the paths that it was asked for."""

    def __init__(self) -> None:
        self.began, self.may_end, self.asked = asyncio.Event(), asyncio.Event(), list[str]()
        self.ended = deque[AdminConnection]()
        self._server = web.Server(self._answer)

    async def _answer(self, asked: web.BaseRequest) -> web.Response:
        assert isinstance(asked.protocol, AdminConnection)
        asked.protocol.begin_exchange(asked.content)
        self.asked.append(asked.path)
        self.began.set()
        await self.may_end.wait()
        asked[KEEPS] = True
        return web.Response(text="whole")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[socket.socket]:
        loop, peer = asyncio.get_running_loop(), Peer(ip_address("127.0.0.1"), 7)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            await loop.connect_accepted_socket(
                lambda: AdminConnection(self._server, loop, peer, self.ended.append, iteration_now()), ours
            )
            yield theirs
        await self._server.shutdown()


async def received(theirs: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    found = b""
    while not enough(found) and (more := await asyncio.get_running_loop().sock_recv(theirs, 100_000)):
        found += more
    return found


async def test_a_head_that_is_too_large_waits_for_the_answer_before_it_and_is_refused_then() -> None:
    slow, loop, parsed = Slow(), asyncio.get_running_loop(), Work()
    with patch.object(Backlog, "take", parsed.counting(Backlog.take, lambda _, most: most)):
        async with slow.connected() as theirs:
            await loop.sock_sendall(theirs, ONE)
            await slow.began.wait()
            head = b"".join(b"H%d: %b\r\n" % (number, b"a" * 8000) for number in range(90))
            sending = asyncio.ensure_future(loop.sock_sendall(theirs, b"GET /b HTTP/1.1\r\nHost: h\r\n" + head))
            await eventually(lambda: parsed.total > 100_000)
            assert parsed.total < 150_000
            slow.may_end.set()
            answers = await received(theirs, lambda found: b" 431 " in found)
            assert (answers.count(b"HTTP/1.1 "), answers.index(b"whole") < answers.index(b" 431 ")) == (2, True)
            await eventually(lambda: bool(slow.ended))
            assert parsed.total < 300_000
            await asyncio.gather(sending, return_exceptions=True)


async def test_requests_that_come_while_one_is_answered_are_all_answered() -> None:
    slow, loop = Slow(), asyncio.get_running_loop()
    async with slow.connected() as theirs:
        await loop.sock_sendall(theirs, ONE)
        await slow.began.wait()
        many = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (n, b"a" * 3500) for n in range(40))
        sending = asyncio.ensure_future(loop.sock_sendall(theirs, many))
        for _ in range(20):
            await asyncio.sleep(0)
        slow.may_end.set()
        answers = await received(theirs, lambda found: found.count(b"whole") == 41)
        await sending
        assert answers.count(b"HTTP/1.1 200") == 41
        assert slow.asked == ["/livez", *(f"/{number}" for number in range(40))]


async def test_what_was_refused_for_what_came_behind_it_is_not_carried_out() -> None:
    """Or its client had another answer than the one to what was done."""
    slow, loop = Slow(), asyncio.get_running_loop()
    slow.may_end.set()
    async with slow.connected() as theirs:
        head = b"".join(b"H%d: %b\r\n" % (number, b"a" * 8000) for number in range(30))
        first = b"POST /revoke HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        with suppress(ConnectionError):
            await loop.sock_sendall(theirs, first + b"GET /b HTTP/1.1\r\nHost: h\r\n" + head)
        await eventually(lambda: bool(slow.ended))
        answers = await received(theirs, lambda found: b" 431 " in found)
        assert slow.asked == ([] if answers.startswith(b"HTTP/1.1 431") else ["/revoke"])


async def never_asked(_: web.BaseRequest) -> web.Response:
    raise AssertionError
