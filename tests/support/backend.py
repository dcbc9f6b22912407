"""An upstream made of raw bytes: it records what each connection got, byte for byte, and answers by script.

A script is a coroutine function that is given the Connection. What h11, a parser that is not the gateway's, makes of
the bytes is in `Connection.requests`: the requests that arrived whole.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast

import h11

from tests.support.waiting import DEADLINE, Facts

HEALTH_PATH: Final = "/probe-of-the-gateway"
_PROBE: Final = f"GET {HEALTH_PATH} ".encode()
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + b'{"success": true}'


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer with a Content-Length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """A whole answer in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that arrived whole, as h11 reads it; header names in lower case."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, in order."""
        return [value for found, value in self.headers if found == name]

    def value(self, name: bytes) -> bytes | None:
        """The value of a header that is there once at the most."""
        values = self.values(name)
        assert len(values) <= 1, f"{name!r} is there {len(values)} times"
        return values[0] if values else None


class Connection(asyncio.Protocol):
    """One connection from the gateway."""

    def __init__(self, backend: "Backend") -> None:
        self.received = bytearray()
        self.requests: list[Arrived] = []
        self.garbled: str | None = None
        self.ended = False
        self.lost_by: Exception | None = None
        self.backend = backend
        self._facts = backend.facts
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1_048_576)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self.taken = 0
        self._paused = False
        self.transport: asyncio.Transport | None = None
        self._script: asyncio.Task[None] | None = None

    # For scripts

    async def request(self, within: float = DEADLINE) -> Arrived:
        """Waits for the next whole request."""
        await self._facts.until(lambda: len(self.requests) > self.taken or self.ended, within)
        if len(self.requests) <= self.taken:
            raise ConnectionResetError
        self.taken += 1
        return self.requests[self.taken - 1]

    async def has(self, count: int) -> None:
        """Waits for so many bytes in all."""
        await self._facts.until(lambda: len(self.received) >= count or self.ended)

    async def head(self) -> bytes:
        """Waits for the first head, its empty line included."""
        await self._facts.until(lambda: b"\r\n\r\n" in self.received or self.ended)
        return bytes(self.received.partition(b"\r\n\r\n")[0]) + b"\r\n\r\n"

    async def end(self, within: float = DEADLINE) -> None:
        """Waits until the gateway has closed the connection."""
        await self._facts.until(lambda: self.ended, within)

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    async def sent(self, data: bytes) -> None:
        """Sends and waits until the buffer has room again."""
        self.send(data)
        await self._facts.until(lambda: not self._paused or self.ended, within=60)

    def finish(self) -> None:
        """Closes once everything is sent."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Closes with a TCP reset."""
        if self.transport is not None:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()

    def pause(self) -> None:
        """Reads no more."""
        assert self.transport is not None
        self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        assert self.transport is not None
        self.transport.resume_reading()

    def forget(self) -> None:
        """Lets go of what came: cycles keep this object for a while, and uploads are large."""
        self.received.clear()
        self.requests.clear()
        self._body.clear()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's says nothing of its kinship
        self.backend.open.add(self)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if not self.received and data.startswith(_PROBE):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()
            return
        if not self.received:
            self.backend.connections.append(self)
            self._script = self.backend.run(self)
        self.received += data
        self._parse(data)
        self._facts.changed()

    def eof_received(self) -> None:
        """The gateway never half-closes: an end is an end."""

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        self.lost_by = error
        self.transport = None
        self.backend.open.discard(self)
        self._facts.changed()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._facts.changed()

    def _parse(self, data: bytes) -> None:
        if self.garbled is not None:
            return
        try:
            self._parser.receive_data(data)
            while True:
                event = self._parser.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._note(event)
        except (h11.RemoteProtocolError, h11.LocalProtocolError) as error:
            self.garbled = str(error)

    def _note(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._head, self._body = event, []
        elif isinstance(event, h11.Data):
            self._body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and self._head is not None:
            head = self._head
            pairs = [(bytes(name), bytes(value)) for name, value in head.headers]
            self.requests.append(Arrived(bytes(head.method), bytes(head.target), pairs, b"".join(self._body)))
            # For h11 alone: what was answered really is the script's business.
            self._parser.send(h11.Response(status_code=204, headers=[]))
            self._parser.send(h11.EndOfMessage())
            self._parser.start_next_cycle()


Script = Callable[[Connection], Awaitable[None]]


async def obliging(connection: Connection) -> None:
    """Answers 200 to every whole request."""
    while True:
        await connection.request()
        connection.send(OK)


def answering(*answers: bytes) -> Script:
    """Answers whole requests with these, one after the other; the last one for ever."""

    async def script(connection: Connection) -> None:
        turn = 0
        while True:
            await connection.request()
            connection.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


def in_turn(*scripts: Script) -> Script:
    """Each connection has the next script; the last one is for all that follow."""
    left = list(scripts)

    async def script(connection: Connection) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(connection)

    return script


def closing_after(data: bytes) -> Script:
    """Answers the first whole request with these bytes, then closes."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(data)
        connection.finish()

    return script


async def silent(connection: Connection) -> None:
    """Never answers."""
    await connection.end(60)


class Backend:
    """The upstream. `connections` are those that brought a byte, the gateway's health probes apart."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.connections: list[Connection] = []
        self.open: set[Connection] = set()
        self.script: Script = obliging
        self._scripts: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()
        failures = await self._end_scripts()
        for connection in self.connections:
            connection.forget()
        if failures and error is None:
            raise failures[0]

    async def listen(self) -> None:
        """Opens the port, the same one as before if it was closed."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def hang_up(self) -> None:
        """Closes the port and every connection."""
        if self._server is not None:
            self._server.close()
            await self._end_connections()
            await self._server.wait_closed()
            self._server = None

    async def begin_anew(self) -> None:
        """Ends every connection and forgets what it brought, and listens: another test begins."""
        await self._end_connections()
        failures = await self._end_scripts()
        for connection in self.connections:
            connection.forget()
        self.connections = []
        self.script = obliging
        if self._server is None:
            await self.listen()
        if failures:
            raise failures[0]

    async def _end_scripts(self) -> list[Exception]:
        """Ends what plays; returns what failed."""
        scripts, self._scripts = self._scripts, set()
        for task in scripts:
            task.cancel()
        ends = await asyncio.gather(*scripts, return_exceptions=True)
        return [end for end in ends if isinstance(end, Exception)]

    async def _end_connections(self) -> None:
        for connection in list(self.open):
            if connection.transport is not None:
                connection.transport.abort()
        await self.facts.until(lambda: not self.open)

    def run(self, connection: Connection) -> asyncio.Task[None]:
        """Starts the present script for a connection."""

        async def play() -> None:
            with suppress(ConnectionResetError):
                await self.script(connection)

        task = asyncio.get_running_loop().create_task(play())
        self._scripts.add(task)
        task.add_done_callback(self._played)
        return task

    def _played(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._scripts.discard(task)

    @property
    def requests(self) -> list[Arrived]:
        """All requests that arrived whole, in the order of their connections."""
        return [request for connection in self.connections for request in connection.requests]

    @property
    def received(self) -> int:
        """Bytes of all connections."""
        return sum(len(connection.received) for connection in self.connections)

    async def settled(self) -> None:
        """Returns once all that was on its way to this port when it was called is here."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(_PROBE + b"HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def got_nothing(self) -> None:
        """Asserts that no request, not even a part of one, came."""
        await self.settled()
        assert [bytes(connection.received) for connection in self.connections] == []

    async def got(self, count: int) -> list[Arrived]:
        """Waits for so many whole requests and returns them."""
        await self.facts.until(lambda: len(self.requests) >= count)
        return self.requests

    async def connected(self, count: int = 1) -> Connection:
        """Waits for so many connections and returns the last of them."""
        await self.facts.until(lambda: len(self.connections) >= count)
        return self.connections[count - 1]

    async def all_closed(self) -> None:
        """Waits until the gateway has closed all its connections."""
        await self.facts.until(lambda: all(connection.ended for connection in self.connections))
