"""Sends a request's body upstream, with back pressure: the client can send only as fast as the upstream takes it.

Sending goes on until the body's end is sent, or the upstream wants no more of it because its answer ended or failed.
The mere beginning of an answer does not stop it: the upstream may need the rest to finish the answer. A body without
inspection then continues *beside* its answer (`go_on`), in a Drive of its own; an inspected body is first sent to its
end while the answer is held back, for only the inspection knows whether the end may be sent at all.
"""

import asyncio
from collections.abc import Callable

from gateway.aio.drive import Drive
from gateway.errors import UpstreamTimeout
from gateway.policy.body_limits import check_length
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.submission import Submission
from gateway.upstream.connection import UpstreamConnection


class _NoMoreWanted(Exception):
    """Not an error: ends the wait for bytes that the upstream no longer wants."""


class Upload:
    """Sends one body. The connection frames it anew, as an inspection may remove or hold back bytes.

    `check_end` is called right before the end is released, and may refuse it.
    """

    __slots__ = (
        "_body",
        "_check_end",
        "_client",
        "_delivery",
        "_drive",
        "_prepared",
        "_start",
        "_submit",
        "_upstream",
    )

    def __init__(self, order: ForwardOrder, upstream: UpstreamConnection, check_end: Callable[[], None]) -> None:
        self._client = order.client
        self._body = order.body
        self._prepared = order.prepared
        self._upstream = upstream
        self._delivery = order.delivery
        self._submit = order.submit
        self._check_end = check_end
        self._drive: Drive | None = None
        self._start: asyncio.Handle | None = None

    async def run(self) -> None:
        """Sends the body to its end, or while it is wanted; without inspection only until an answer begins.

        Raises:
            Refused: the body is too large, too slow or malformed.
            ClientGone: the client left before the body's end was released.
            UpstreamTimeout: the upstream stopped taking the body.
        """
        client = self._client
        self._upstream.on_early(self._on_early)
        try:
            client.expect_body(self._prepared.headers.content_length)
            client.invite(self._prepared.headers)
            await self._send(lambda: self._submit is None and self._upstream.head is not None, self._expect_room)
        finally:
            self._upstream.on_early(None)

    def go_on(self, watch_answer: Callable[[], None], on_fault: Callable[[BaseException], None]) -> None:
        """Sends the rest beside the answer, from the next loop iteration on, until `stop`.

        `watch_answer` sets the client's deadlines for the answer alone: it is called whenever the wait is not for the
        client's body. `on_fault` gets the errors that `run` would raise.
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

        self._upstream.on_early(self._stop_if_over)
        self._start = asyncio.get_running_loop().call_soon(start)

    def stop(self) -> None:
        """Ends what `go_on` started, because the answer is over."""
        self._upstream.on_early(None)
        if self._start is not None:
            self._start.cancel()
            self._start = None
        if self._drive is not None:
            self._drive.interrupt(_NoMoreWanted())

    def _stop_if_over(self) -> None:
        """Stops once the answer has ended: a fault in the rest of the client's body must not cut the answer off."""
        if not self._upstream.wants_body:
            self.stop()

    def _on_early(self) -> None:
        if self._submit is None or not self._upstream.wants_body:
            self._client.interrupt(_NoMoreWanted())

    async def _send(self, has_paused: Callable[[], bool], watch_upstream: Callable[[], None]) -> None:
        client, body = self._client, self._body
        client.start_body(body)
        try:
            is_over = False
            while not is_over and self._upstream.wants_body and not has_paused():
                is_over = await self._send_piece()
                if not is_over and self._upstream.wants_body:
                    client.note_body_progress()
                    await self._until_writable(watch_upstream)
        except _NoMoreWanted:
            return
        finally:
            client.end_body()

    async def _send_piece(self) -> bool:
        """Sends the next bytes of the body; returns whether its end, which is checked once, was among them."""
        data = await self._client.next_piece(self._body)
        self._delivery.received += len(data)
        check_length(self._delivery.received, self._prepared.permit.body_limit)
        is_last = self._body.is_eof() and self._body.at_eof()
        if self._submit is not None:
            data = await self._inspected(self._submit, data, is_last)
        if not self._upstream.wants_body:
            return is_last
        if is_last:
            self._check_end()
            self._release()
        self._upstream.send(data)
        if is_last:
            self._upstream.send_end()
        return is_last

    async def _inspected(self, submit: Submission, data: bytes, is_last: bool) -> bytes:
        passed = await submit.take(data) if data else b""
        if not is_last:
            return passed
        self._client.end_body()  # from here on the client is not what we wait for
        await self._client.time_for(self._delivery.received)  # the form is judged in one piece
        return passed + await submit.reserve_pages(self._client.let_others)

    def _release(self) -> None:
        """Marks the point from which the upstream may have the whole request.

        A submit's exchange then continues even if the client leaves, because the upstream's answer must be recorded.
        Any other exchange has no consequences, and ends with its client.
        """
        if self._submit is not None:
            self._client.finish_alone()
            self._submit.mark_released()

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
        read_timeout = self._prepared.upstream.read_timeout
        self._client.expect(read_timeout, lambda: UpstreamTimeout("The upstream takes no more of the body."))
