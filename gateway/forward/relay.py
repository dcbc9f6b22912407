"""The two-way stream: a body up to the upstream, an answer down to the client, with back-pressure both ways.

What is large is never held: pieces are passed on as they come, and whoever can't keep up pauses the other side. An
answer that fails midway ends in a cut connection, never in a polite end, so that nobody takes it for the whole.
"""

from collections.abc import Callable
from typing import Final, Protocol

from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway.acquaintance import Passage
from gateway.errors import ClientTooSlow, GatewayError, UpstreamBrokeOff, UpstreamTimeout, refuse
from gateway.forward.answer import AnswerHead
from gateway.forward.connection import UpstreamConnection
from gateway.listener.connection import ClientConnection
from gateway.model import Delivery, Reason
from gateway.policy import body_too_large

_MOST_ANSWER: Final = 262_144  # reading it blocks the loop, for some 10 ms at that size
_DRAIN_BYTES: Final = 1_048_576
_DRAIN_SECONDS: Final = 2.0


class Inspection(Protocol):
    """Looks into a submit's body as it passes, and holds its end back until the job may start."""

    async def take(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what may go upstream now. Raises Refused."""

    async def release(self) -> bytes:
        """Called behind the last byte; gives what was held back, once the job may start. Raises Refused."""

    def released(self) -> None:
        """Called right before that is sent."""


class Watch(Protocol):
    """Looks at an answer as it passes; then it says whether that told of a job's end, or that the job still runs."""

    is_final: bool
    is_unfinished: bool

    def begin(self, head: AnswerHead) -> None:
        """Takes the answer's head."""

    def take(self, data: bytes) -> None:
        """Takes the next bytes."""

    async def end(self) -> None:
        """Called once the answer is whole."""


class Rewriter(Protocol):
    """Changes an answer as it passes."""

    def take(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what may go on."""

    def end(self) -> bytes:
        """Gives what is left."""


class _EarlyAnswer(Exception):
    """No error: the upstream has made up its mind before the body's end."""


async def send_body(
    client: ClientConnection,
    body: StreamReader,
    passage: Passage,
    upstream: UpstreamConnection,
    delivery: Delivery,
    inspection: Inspection | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Streams the request's body upstream until its end, or until the upstream answers or fails early.

    What `inspection` takes out or holds back is framed anew, in chunks. `ready` is called right before the end is
    released, and may refuse it.

    Raises:
        Refused: the body is too large, too slow or malformed.
        ClientGone: before the body's end was released.
        UpstreamTimeout: the upstream took no more of it.
    """
    upstream.on_early = lambda: client.interrupt(_EarlyAnswer())
    try:
        client.expect_body(passage.fields.content_length)
        client.start_body(body)
        if passage.fields.expects_continue:
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not _has_answered(upstream):
            data = await _next_piece(client, body, passage, delivery)
            is_last = body.is_eof() and body.at_eof()
            if inspection is not None:
                data = await _inspected(client, inspection, data, is_last)
            if _has_answered(upstream):
                break
            if is_last:
                ready()
                _release(client, inspection)
            _pass_on(upstream, data, is_last, passage.fields.chunked or inspection is not None)
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


async def _next_piece(client: ClientConnection, body: StreamReader, passage: Passage, delivery: Delivery) -> bytes:
    data = await client.next_piece(body)
    delivery.received += len(data)
    if delivery.received > passage.permit.body_limit:
        raise body_too_large(delivery.received, passage.permit.body_limit)
    return data


async def _inspected(client: ClientConnection, inspection: Inspection, data: bytes, is_last: bool) -> bytes:
    passed = await inspection.take(data) if data else b""
    if not is_last:
        return passed
    client.end_body()  # what is waited for now is not the client
    return passed + await inspection.release()


def _has_answered(upstream: UpstreamConnection) -> bool:
    return upstream.head is not None or upstream.failure is not None


def _release(client: ClientConnection, inspection: Inspection | None) -> None:
    """From here on the upstream may have the whole request.

    One that was inspected is of a job: its exchange goes on whether the client stays or not, for what the upstream
    answers must be written down. Nothing follows from any other, so it ends with its client.
    """
    if inspection is not None:
        client.finishes_alone = True
        inspection.released()


def _pass_on(upstream: UpstreamConnection, data: bytes, is_last: bool, chunked: bool) -> None:
    if not chunked:
        upstream.send(data)
        return
    if data:
        upstream.send_all((b"%x\r\n" % len(data), data, b"\r\n"))
    if is_last:
        upstream.send(b"0\r\n\r\n")


async def _until_writable(client: ClientConnection, upstream: UpstreamConnection, read_timeout: float) -> None:
    client.expect(read_timeout, lambda: UpstreamTimeout("The upstream takes no more of the body."))
    while upstream.writing_paused and upstream.failure is None:
        await upstream.writable


class Download:
    """Takes an answer's body from the upstream and writes it to the client; pauses the upstream when that is slow."""

    __slots__ = ("_chunked", "_client", "_delivery", "_read_timeout", "_upstream", "rewriter", "watch")

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
        self.watch: Watch | None = None
        self.rewriter: Rewriter | None = None

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
        if self.rewriter is not None:
            self._send(self.rewriter.end())
        if self._chunked:
            client.send(b"0\r\n\r\n")
        if self.watch is not None:
            await self.watch.end()
            self._delivery.is_final = self.watch.is_final
            self._delivery.is_unfinished = self.watch.is_unfinished

    def take(self, data: bytes) -> None:
        """Called with the next piece of the body."""
        client = self._client
        if self.watch is not None:
            self.watch.take(data)
        self._send(data if self.rewriter is None else self.rewriter.take(data))
        if client.writing_paused:
            self._upstream.pause()
            client.watch_reader()
        else:
            self._watch_upstream()

    def _send(self, data: bytes) -> None:
        if not data:
            return
        self._delivery.sent += len(data)
        if self._chunked:
            data = b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        self._client.send(data)

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
    """Reads and drops the rest of a body, bounded in bytes of the wire and time, so that the client reads the answer.

    Without it the kernel would answer the client's next bytes with a reset, which wipes out what we said.
    """
    most = client.body_wire + _DRAIN_BYTES
    client.expect(_DRAIN_SECONDS, lambda: ClientTooSlow("The rest of the body was not waited for."))
    try:
        while client.body_wire < most and not (body.is_eof() and body.at_eof()) and not client.is_gone:
            await client.next_piece(body)
    except (GatewayError, RequestPayloadError):
        return
    finally:
        client.expect_nothing()
