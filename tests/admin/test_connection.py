"""What the admin listener's connection takes from its socket: no more than it has turns for."""

import asyncio
import socket
from collections import deque
from contextlib import suppress
from ipaddress import ip_address
from unittest.mock import patch

from aiohttp import web

from gateway.admin.connection import AdminConnection
from gateway.listener.backlog import Backlog
from gateway.model.identity import Peer
from tests.support.iteration import iteration_now
from tests.support.waiting import eventually
from tests.support.work import Work

ONE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_what_is_sent_behind_a_request_that_takes_long_waits_in_the_kernel() -> None:
    """aiohttp keeps so many heads, and then pauses: turns that go on meanwhile do not resume the socket."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def answer(_: web.BaseRequest) -> web.Response:
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
