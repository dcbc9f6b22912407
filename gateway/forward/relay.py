"""The two-way stream: a body up to the upstream, an answer down to the client, with back-pressure both ways.

What is large is never held: pieces are passed on as they come, and whoever can't keep up pauses the other side. An
answer that fails midway ends in a cut connection, never in a polite end, so that nobody takes it for the whole.
"""

from typing import Final

from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway.acquaintance import Passage
from gateway.errors import ClientTooSlow, GatewayError, UpstreamBrokeOff, UpstreamTimeout, refuse
from gateway.forward.connection import UpstreamConnection
from gateway.listener.connection import ClientConnection
from gateway.model import Delivery, Reason
from gateway.policy import body_too_large

_MOST_ANSWER: Final = 262_144  # reading it blocks the loop, for some 10 ms at that size
_DRAIN_BYTES: Final = 1_048_576
_DRAIN_SECONDS: Final = 2.0


class _EarlyAnswer(Exception):
    """No error: the upstream has made up its mind before the body's end."""


async def send_body(
    client: ClientConnection,
    body: StreamReader,
    passage: Passage,
    upstream: UpstreamConnection,
    delivery: Delivery,
) -> None:
    """Streams the request's body upstream until its end, or until the upstream answers or fails early.

    Raises:
        Refused: the body is too large, too slow or malformed.
        ClientGone: before the body's end was released.
        UpstreamTimeout: the upstream took no more of it.
    """
    upstream.on_early = lambda: client.interrupt(_EarlyAnswer())
    try:
        client.start_body(body)
        if passage.fields.expects_continue:
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while upstream.head is None and upstream.failure is None:
            data = await client.next_piece(body)
            delivery.received += len(data)
            if delivery.received > passage.permit.body_limit:
                raise body_too_large(delivery.received, passage.permit.body_limit)
            is_last = body.is_eof() and body.at_eof()
            if is_last:
                client.finishes_alone = True
            _pass_on(upstream, data, is_last, passage.fields.chunked)
            if is_last:
                break
            client.body_moved()
            if upstream.writing_paused:
                await _until_writable(client, upstream, passage.target.read_timeout)
                client.start_body(body)
    except _EarlyAnswer:
        pass
    except RequestPayloadError:
        raise refuse(Reason.BODY_MALFORMED, "The request's body is malformed or ends too early.") from None
    finally:
        upstream.on_early = None
        client.end_body()


def _pass_on(upstream: UpstreamConnection, data: bytes, is_last: bool, chunked: bool) -> None:
    if not chunked:
        upstream.send(data)
        return
    if data:
        upstream.send(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
    if is_last:
        upstream.send(b"0\r\n\r\n")


async def _until_writable(client: ClientConnection, upstream: UpstreamConnection, read_timeout: float) -> None:
    client.expect(read_timeout, lambda: UpstreamTimeout("The upstream takes no more of the body."))
    while upstream.writing_paused and upstream.failure is None:
        await upstream.writable


class Download:
    """Takes an answer's body from the upstream and writes it to the client; pauses the upstream when that is slow."""

    __slots__ = ("_chunked", "_client", "_delivery", "_read_timeout", "_upstream")

    def __init__(
        self,
        client: ClientConnection,
        upstream: UpstreamConnection,
        delivery: Delivery,
        read_timeout: float,
        *,
        chunked: bool,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._read_timeout = read_timeout
        self._chunked = chunked
        self._delivery = delivery

    async def run(self, head: bytes) -> None:
        """Writes the head and all of the body.

        Raises:
            ClientGone: the client left or reads too slowly.
            UpstreamFailed: the upstream failed midway; the client has a part.
        """
        client, upstream = self._client, self._upstream
        client.send(head)
        client.on_writable = self._client_writable
        self._watch_upstream()
        try:
            upstream.flow(self)
            if not upstream.body_ended and upstream.failure is None:
                await upstream.finished
        finally:
            client.on_writable = None
            client.expect_nothing()
        if upstream.failure is not None:
            raise upstream.failure
        if self._chunked:
            client.send(b"0\r\n\r\n")

    def take(self, data: bytes) -> None:
        """Called with the next piece of the body."""
        client = self._client
        self._delivery.sent += len(data)
        if self._chunked:
            data = b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        client.send(data)
        if client.writing_paused:
            self._upstream.pause()
            client.watch_reader()
        else:
            self._watch_upstream()

    def _watch_upstream(self) -> None:
        self._client.expect(self._read_timeout, lambda: UpstreamTimeout("The upstream fell silent midway."))

    def _client_writable(self) -> None:
        self._watch_upstream()
        self._upstream.resume()


class Collected:
    """Takes a small answer's body whole, because it is read on its way."""

    __slots__ = ("_size", "_upstream", "pieces")

    def __init__(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        self._size = 0
        self.pieces: list[bytes] = []

    async def run(self) -> bytes:
        """Waits for all of it.

        Raises:
            UpstreamBrokeOff: it failed midway, or is larger than 256 KB.
        """
        upstream = self._upstream
        upstream.flow(self)
        if not upstream.body_ended and upstream.failure is None:
            await upstream.finished
        if upstream.failure is not None:
            raise upstream.failure
        return b"".join(self.pieces)

    def take(self, data: bytes) -> None:
        """Called with the next piece of the body."""
        self._size += len(data)
        if self._size > _MOST_ANSWER:
            self._upstream.break_off(
                UpstreamBrokeOff("The upstream's answer to a submit is too large.", arrived=True)
            )
        else:
            self.pieces.append(data)


async def drain(client: ClientConnection, body: StreamReader) -> None:
    """Reads and drops the rest of a refused body, bounded in bytes and time, so that the client can read the answer.

    Without it the kernel would answer the client's next bytes with a reset, which wipes out what we said.
    """
    left = _DRAIN_BYTES
    client.expect(_DRAIN_SECONDS, lambda: ClientTooSlow("The rest of the body was not waited for."))
    try:
        while left > 0 and not (body.is_eof() and body.at_eof()) and not client.is_gone:
            left -= len(await client.next_piece(body))
    except (GatewayError, RequestPayloadError):
        return
    finally:
        client.expect_nothing()
