"""A client made of raw bytes over TLS; answers are read by h11, a parser that is not the gateway's."""

import asyncio
import json
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import h11

from tests.support.waiting import DEADLINE


class Truncated(Exception):
    """The connection ended within an answer; `part` is what came of it."""

    def __init__(self, part: "Response") -> None:
        self.part = part
        super().__init__(f"{part.status} and {len(part.body)} bytes")


@dataclass(slots=True)
class Response:
    """An answer; header names in lower case. `interim` are the statuses of the 1xx answers before it."""

    status: int = 0
    phrase: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, in order."""
        return [value for found, value in self.headers if found == name]

    def value(self, name: bytes) -> bytes | None:
        """The value of a header that is there once at the most."""
        values = self.values(name)
        assert len(values) <= 1, f"{name!r} is there {len(values)} times"
        return values[0] if values else None

    @property
    def reason(self) -> str | None:
        """What the gateway says of why it answered itself; None for the upstream's own answers."""
        value = self.value(b"x-gateway-reason")
        return None if value is None else value.decode()

    def is_refusal(self, status: int, reason: str) -> dict[str, Any]:
        """Asserts that this is one of our problems, with all that belongs to one; returns its members."""
        assert (self.status, self.reason) == (status, reason), self.body
        assert self.interim == []
        assert self.value(b"content-type") == b"application/problem+json"
        assert self.value(b"cache-control") == b"no-store"
        assert self.value(b"server") is None
        assert self.value(b"date")
        problem: dict[str, Any] = json.loads(self.body)
        assert set(problem) == {"type", "title", "status", "detail", "reason", "request_id"}
        assert (problem["status"], problem["reason"], problem["title"]) == (status, reason, self.phrase)
        assert problem["request_id"].encode() == self.value(b"x-request-id")
        assert isinstance(problem["detail"], str)
        assert (self.value(b"www-authenticate") is not None) == (status == 401)
        assert (self.value(b"retry-after") is not None) == (status in {429, 503})
        assert (self.value(b"allow") is not None) == (status == 405)
        return problem


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._left = b""
        self._ended = False

    @classmethod
    async def connect(
        cls,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        source: str = "127.0.0.1",
        before: bytes = b"",
        receive_buffer: int | None = None,
    ) -> Self:
        """Connects from a source address; `before` is sent in the clear, ahead of TLS."""
        loop = asyncio.get_running_loop()
        plain = socket.socket()
        try:
            if receive_buffer is not None:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setblocking(False)
            plain.bind((source, 0))
            await loop.sock_connect(plain, ("127.0.0.1", port))
            if before:
                await loop.sock_sendall(plain, before)
            async with asyncio.timeout(DEADLINE):
                reader, writer = await asyncio.open_connection(
                    sock=plain, ssl=tls, server_hostname="localhost" if tls else None
                )
        except BaseException:
            plain.close()
            raise
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes politely, but waits for nobody."""
        self.writer.close()
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(0.5):
                await self.writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        """Leaves without a word."""
        with suppress(AttributeError):  # asyncio's TLS can't be aborted once it is closed
            self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Sends; what the gateway does not take any more is lost."""
        if not self.writer.transport.is_closing():
            self.writer.write(data)

    async def send_all(self, data: bytes) -> None:
        """Sends, and waits until there is room for more."""
        self.send(data)
        await self.writer.drain()

    async def send_bytewise(self, data: bytes, at_most: int = 600) -> None:
        """Sends each byte in a TLS record and a read of its own; what is beyond `at_most`, in pieces of 997."""
        pieces = [data[i : i + 1] for i in range(min(len(data), at_most))]
        pieces += [data[i : i + 997] for i in range(at_most, len(data), 997)]
        for piece in pieces:
            self.send(piece)
            for _ in range(3):  # the turns of the loop in which the gateway, in this process, reads it
                await asyncio.sleep(0)

    async def response(self, method: bytes = b"GET", within: float = DEADLINE) -> Response:
        """Reads one whole answer to a request with this method.

        Raises:
            Truncated: the connection ended within it.
            TimeoutError: it did not come.
        """
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1_048_576)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "localhost")]))
        parser.send(h11.EndOfMessage())
        response = Response()
        body: list[bytes] = []
        parser.receive_data(self._left) if self._left else None
        self._left = b""
        async with asyncio.timeout(within):
            while True:
                try:
                    event = parser.next_event()
                except h11.RemoteProtocolError:
                    response.body = b"".join(body)
                    if self._ended:
                        raise Truncated(response) from None
                    raise
                if event is h11.NEED_DATA:
                    parser.receive_data(await self.read_some())
                elif isinstance(event, h11.InformationalResponse):
                    response.interim.append(event.status_code)
                elif isinstance(event, h11.Response):
                    response.status = event.status_code
                    response.phrase = bytes(event.reason).decode("latin-1")
                    response.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                elif isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                elif isinstance(event, h11.ConnectionClosed):
                    raise Truncated(response)
                else:
                    response.body = b"".join(body)
                    self._left = parser.trailing_data[0]
                    return response

    async def ask(self, request: bytes, method: bytes = b"GET", within: float = DEADLINE) -> Response:
        """Sends a request and reads its answer."""
        self.send(request)
        return await self.response(method, within)

    async def rest(self, within: float = DEADLINE) -> bytes:
        """Reads all that comes until the gateway closes.

        Raises:
            TimeoutError: it does not close.
        """
        pieces = [self._left]
        self._left = b""
        async with asyncio.timeout(within):
            while not self._ended:
                pieces.append(await self.read_some())
        return b"".join(pieces)

    async def is_closed(self, within: float = DEADLINE) -> None:
        """Asserts that nothing more comes but the end."""
        assert await self.rest(within) == b""

    async def read_some(self) -> bytes:
        try:
            data = await self.reader.read(262_144)
        except (ConnectionError, ssl.SSLError):
            data = b""
        self._ended = not data
        return data


def read_strictly(port: int, trusting: ssl.SSLContext, request: bytes) -> tuple[bytes, bool]:
    """Asks, and reads to the connection's end; tells whether TLS says that this end is the answer's.

    Blocking, so for threads: asyncio's TLS does not tell a close_notify from a lost connection.
    """
    tls = ssl.create_default_context()
    tls.load_verify_locations(
        cadata="\n".join(map(ssl.DER_cert_to_PEM_cert, trusting.get_ca_certs(binary_form=True)))
    )
    tls.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python sets, and which would hide the difference
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as plain:
        plain.settimeout(DEADLINE)
        secured = tls.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        with secured:
            secured.sendall(request)
            read = b""
            try:
                while data := secured.recv(65536):
                    read += data
            except (ssl.SSLError, ConnectionError):
                return read, False
            return read, True
