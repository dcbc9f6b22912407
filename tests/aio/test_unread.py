"""unread.py on both loops, over real sockets: a server that answers, does not read on, and closes."""

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
import uvloop

from gateway.aio.unread import read_unread

LINGER = struct.pack("ii", 1, 0)  # close sends RST


class Writer(asyncio.Protocol):
    """Writes without reading, until the connection is lost."""

    def __init__(self) -> None:
        self.found: asyncio.Future[tuple[bytes, bool]] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a stream's
        transport.pause_reading()  # type: ignore[attr-defined] # a stream's

    def connection_lost(self, error: Exception | None) -> None:
        assert self.transport is not None
        self.found.set_result((read_unread(self.transport), error is not None))


async def write_to_one_that_broke_off(answer: bytes) -> tuple[bytes, bool]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        writer = Writer()
        await asyncio.get_running_loop().create_connection(lambda: writer, *server.getsockname())
        far, _ = server.accept()
        assert writer.transport is not None
        writer.transport.write(b"a body")
        far.sendall(answer)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        far.close()
        while not writer.found.done():
            writer.transport.write(b"more of it")
            await asyncio.sleep(0)
        return writer.found.result()


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("size", [0, 3_000, 60_000])
def test_what_came_before_a_write_failed_is_there(make: Callable[[], asyncio.AbstractEventLoop], size: int) -> None:
    with asyncio.Runner(loop_factory=make) as runner:
        assert runner.run(write_to_one_that_broke_off(b"z" * size)) == (b"z" * size, True)


class Without(asyncio.Transport):
    """A transport of no socket."""


def test_where_no_socket_is_nothing_is_read() -> None:
    assert read_unread(Without()) == b""
