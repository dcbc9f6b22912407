"""Sends a request's body upstream, with back-pressure: what the upstream does not take, the client does not send.

The body goes on until its end went out, or until the upstream wants no more of it: its answer ended, or failed. An
answer that has begun is no reason to stop, for the upstream may need the rest to finish it. A body that nobody looks
into goes on *beside* its answer then (`go_on`), in a Drive of its own; one that is inspected goes to its end first,
while the answer is held back, for only the inspection knows whether its end may go out at all.
"""

import asyncio
from collections.abc import Callable

from gateway.aio.drive import Drive
from gateway.errors import UpstreamTimeout
from gateway.policy.routes import body_too_large
from gateway.proxy.forwarding import Forwarding, Inspection
from gateway.upstream.connection import UpstreamConnection


class _NoMoreWanted(Exception):
    """No error: ends the wait for bytes that the upstream wants no more."""


class Upload:
    """Sends one body. What an inspection takes out or holds back is framed anew, by the connection.

    `ready` is called right before the end is released, and may refuse it.
    """

    __slots__ = (
        "_body",
        "_client",
        "_delivery",
        "_drive",
        "_inspection",
        "_prepared",
        "_ready",
        "_start",
        "_upstream",
    )

    def __init__(self, order: Forwarding, upstream: UpstreamConnection, ready: Callable[[], None]) -> None:
        self._client = order.client
        self._body = order.body
        self._prepared = order.prepared
        self._upstream = upstream
        self._delivery = order.delivery
        self._inspection = order.submit or order.inspection
        self._ready = ready
        self._drive: Drive | None = None
        self._start: asyncio.Handle | None = None

    async def run(self) -> None:
        """Sends until the body's end went out, or no more of it is wanted; not inspected, until an answer begins.

        Raises:
            Refused: the body is too large, too slow or malformed.
            ClientGone: before the body's end was released.
            UpstreamTimeout: the upstream took no more of it.
        """
        client = self._client
        self._upstream.tell_early(self._on_early)
        try:
            client.expect_body(self._prepared.fields.content_length)
            if self._prepared.fields.expects_continue:
                client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self._send(lambda: self._inspection is None and self._upstream.head is not None, self._expect_room)
        finally:
            self._upstream.tell_early(None)

    def go_on(self, watch_answer: Callable[[], None], on_fault: Callable[[BaseException], None]) -> None:
        """Sends the rest beside the answer, from the next turn of the loop on, until `stop`.

        `watch_answer` sets the client's clocks for the answer alone: it is called whenever the client's body is not
        what is waited for. `on_fault` gets what `run` would raise.
        """

        async def send() -> None:
            await self._send(lambda: False, watch_answer)
            if not self._upstream.is_answered:
                watch_answer()

        def ended(error: BaseException | None) -> None:
            self._drive = None
            if error is not None and not isinstance(error, _NoMoreWanted):
                on_fault(error)

        def start() -> None:
            self._start = None
            self._drive = Drive(send(), ended)
            self._drive.step()

        self._upstream.tell_early(self._stop_if_over)
        self._start = asyncio.get_running_loop().call_soon(start)

    def stop(self) -> None:
        """Ends what `go_on` began: the answer is over."""
        self._upstream.tell_early(None)
        if self._start is not None:
            self._start.cancel()
            self._start = None
        if self._drive is not None:
            self._drive.interrupt(_NoMoreWanted())

    def _stop_if_over(self) -> None:
        """A client's body is nobody's concern once the answer has ended: no fault of it may cut that off."""
        if not self._upstream.wants_body:
            self.stop()

    def _on_early(self) -> None:
        if self._inspection is None or not self._upstream.wants_body:
            self._client.interrupt(_NoMoreWanted())

    async def _send(self, has_paused: Callable[[], bool], watch_upstream: Callable[[], None]) -> None:
        client, body = self._client, self._body
        client.start_body(body)
        try:
            is_over = False
            while not is_over and self._upstream.wants_body and not has_paused():
                is_over = await self._send_piece()
                if not is_over and self._upstream.wants_body:
                    client.body_moved()
                    await self._until_writable(watch_upstream)
        except _NoMoreWanted:
            return
        finally:
            client.end_body()

    async def _send_piece(self) -> bool:
        """Sends the next bytes of the body; whether its end was among them, which is looked at once."""
        data = await self._client.next_piece(self._body)
        self._delivery.received += len(data)
        if self._delivery.received > self._prepared.permit.body_limit:
            raise body_too_large(self._delivery.received, self._prepared.permit.body_limit)
        is_last = self._body.is_eof() and self._body.at_eof()
        if self._inspection is not None:
            data = await self._inspected(self._inspection, data, is_last)
        if not self._upstream.wants_body:
            return is_last
        if is_last:
            self._ready()
            self._release()
        self._upstream.send(data)
        if is_last:
            self._upstream.send_end()
        return is_last

    async def _inspected(self, inspection: Inspection, data: bytes, is_last: bool) -> bytes:
        passed = await inspection.take(data) if data else b""
        if not is_last:
            return passed
        self._client.end_body()  # what is waited for now is not the client
        return passed + await inspection.release()

    def _release(self) -> None:
        """From here on the upstream may have the whole request.

        One that was inspected is of a job: its exchange goes on whether the client stays or not, for what the
        upstream answers must be written down. Nothing follows from any other, so it ends with its client.
        """
        if self._inspection is not None:
            self._client.finishes_alone = True
            self._inspection.released()

    async def _until_writable(self, watch_upstream: Callable[[], None]) -> None:
        upstream = self._upstream
        if not upstream.writing_paused:
            return
        self._client.end_body()
        watch_upstream()
        while upstream.writing_paused and upstream.wants_body:
            await upstream.writable
        self._client.start_body(self._body)

    def _expect_room(self) -> None:
        read_timeout = self._prepared.target.read_timeout
        self._client.expect(read_timeout, lambda: UpstreamTimeout("The upstream takes no more of the body."))
