"""Streams an answer down to the client, with back pressure; upload.py sends the request's body up.

Large answers are never held: pieces pass as they come, and a slow client pauses the upstream. If an answer fails
midway, the connection is cut, never ended properly, so that no client takes the part for the whole.
"""

from gateway.errors import UpstreamTimeout
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.poll_examination import PollExamination
from gateway.upstream.body_sink import GoOn
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.url_rewriter import UrlRewriter


class Download:
    """Takes an answer's body from the upstream and writes it to the client; pauses the upstream if that is slow."""

    __slots__ = ("_chunked", "_client", "_delivery", "_examination", "_read_timeout", "_rewriter", "_upstream")

    def __init__(
        self,
        order: ForwardOrder,
        upstream: UpstreamConnection,
        examination: PollExamination | None,
        rewriter: UrlRewriter | None,
        *,
        chunked: bool,
    ) -> None:
        self._client = order.client
        self._upstream = upstream
        self._read_timeout = order.prepared.upstream.read_timeout
        self._chunked = chunked
        self._delivery = order.delivery
        self._examination = examination
        self._rewriter = rewriter

    async def run(self, head: bytes) -> None:
        """Writes the head and the whole body.

        Raises:
            ClientGone: the client left or reads too slowly.
            UpstreamFailed: the upstream failed midway; the client has a part.
        """
        client, upstream = self._client, self._upstream
        client.out.send(head)
        client.out.on_writable(self._client_writable)
        self.set_clocks()
        try:
            await upstream.flow(self, looks_inside=self._examination is not None or self._rewriter is not None)
        finally:
            client.out.on_writable(None)
            client.expect_nothing()
        if self._rewriter is not None:
            self._send(self._rewriter.end())
        if self._chunked:
            client.out.send(b"0\r\n\r\n")
        if self._examination is not None:
            await self._examination.end()

    def take(self, data: bytes) -> GoOn | None:
        """Called with the next piece of the body; gives what its examination has to do before it gets more."""
        client = self._client
        behind = None if self._examination is None else self._examination.take(data)
        self._send(data if self._rewriter is None else self._rewriter.take(data))
        if client.out.is_paused:
            self._upstream.pause()
        self.set_clocks()
        return behind

    def set_clocks(self) -> None:
        """Sets the deadline for the client's reading or the upstream's silence; not while the client still sends."""
        client = self._client
        if client.is_reading_body:
            return
        if client.out.is_paused:
            client.out.watch_reader()
        else:
            client.expect(self._read_timeout, lambda: UpstreamTimeout("The upstream fell silent midway."))

    def _send(self, data: bytes) -> None:
        if not data:
            return
        self._delivery.sent += len(data)
        if self._chunked:
            data = b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        self._client.out.send(data)

    def _client_writable(self) -> None:
        self.set_clocks()
        self._upstream.resume()
