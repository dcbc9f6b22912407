"""The gateway's own requests to an upstream: to read a job's status, to delete a job."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from gateway.aio.drive import Drive
from gateway.errors import UpstreamBrokeOff, UpstreamFailed, UpstreamTimeout
from gateway.upstream.body_sink import GoOn
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool, Upstreams
from gateway.upstream.repetition import may_go_again, may_go_on_used
from gateway.upstream.request_head import VIA
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

LEAST_RATE: Final = 65_536  # bytes a second of a long answer


class UpstreamCall(NamedTuple):
    """A request: a method, a target in origin-form, and an optional JSON body.

    `before`: it is not sent at this time or later, by the loop's clock.
    """

    method: str
    target: str
    body: bytes | None = None
    before: float | None = None


class ResponseSink(Protocol):
    """Takes an answer."""

    def begin(self, head: ResponseHead) -> None:
        """Takes its head."""

    def take(self, data: bytes) -> GoOn | None:
        """Takes the next bytes of its body; gives what it does, in turns, before it takes more, if anything."""

    async def end(self) -> None:
        """Called once the whole answer was taken; other requests may run in between."""


Done = Callable[[ResponseHead | UpstreamFailed], None]


class _InTime:
    """Hands an answer on to its sink, and ends its request when it is late.

    It is late after `within` seconds in all, or with `longest`: after `within` seconds without a byte, after more of
    them than bytes came at the least rate, and after `longest` in any case.
    """

    def __init__(self, sink: ResponseSink, within: float, longest: float | None) -> None:
        self._sink = sink
        self._within = within
        self._longest = longest
        self._loop = asyncio.get_running_loop()
        self._began = self._heard = self._loop.time()
        self._taken = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, head: ResponseHead) -> None:
        self._heard = self._loop.time()
        self._sink.begin(head)

    def take(self, data: bytes) -> GoOn | None:
        self._heard = self._loop.time()
        self._taken += len(data)
        return self._sink.take(data)

    async def end(self) -> None:
        await self._sink.end()

    def watch(self, late: Callable[[], None]) -> None:
        """Calls `late` once it is, at the latest; each byte that comes costs no timer."""
        ends = self._ends
        if self._loop.time() < ends:
            self._timer = self._loop.call_at(ends, self.watch, late)
        else:
            late()

    def stop(self) -> None:
        """Calls nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _ends(self) -> float:
        if self._longest is None:
            return self._began + self._within
        whole = min(self._within + self._taken / LEAST_RATE, self._longest)
        return min(self._heard + self._within, self._began + whole)


class UpstreamClient:
    """Runs requests to upstreams. `clock` is the loop's, in seconds; `new_id` makes the request ids."""

    def __init__(self, upstreams: Upstreams, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._upstreams = upstreams
        self._clock = clock
        self._new_id = new_id
        self._running: set[Drive] = set()

    def __repr__(self) -> str:
        return f"<UpstreamClient running={len(self._running)}>"

    def run(
        self,
        upstream: UpstreamTarget,
        call: UpstreamCall,
        sink: ResponseSink,
        within: float,
        done: Done,
        *,
        longest: float | None = None,
    ) -> None:
        """Sends the request; calls `done` with the answer's head after the whole body, or with the failure.

        An answer that is not complete within `within` seconds is a failure. With `longest`, one that goes on coming
        has more: a second for each LEAST_RATE bytes, and `longest` in all; silence for `within` is a failure.
        """
        found: list[ResponseHead] = []
        in_time = _InTime(sink, within, longest)

        async def ask() -> None:
            found.append(await self._ask(self._upstreams.pool_of(upstream), call, in_time))

        def ended(error: BaseException | None) -> None:
            in_time.stop()
            self._running.discard(drive)
            if error is None:
                done(found[0])
            elif isinstance(error, UpstreamFailed):
                done(error)
            elif not isinstance(error, asyncio.CancelledError):
                done(UpstreamBrokeOff("The upstream's answer could not be taken.", arrived=True))
                raise error

        drive = Drive(ask(), ended)
        in_time.watch(lambda: drive.interrupt(UpstreamTimeout("The upstream did not answer in time.")))
        self._running.add(drive)
        drive.step()

    def close(self) -> None:
        """Cancels all running requests."""
        for drive in list(self._running):
            drive.interrupt(asyncio.CancelledError())

    async def _ask(self, pool: Pool, call: UpstreamCall, sink: ResponseSink) -> ResponseHead:
        may_reuse = may_go_on_used(call.method, is_streamed=False)
        used = pool.take_idle(self._clock()) if may_reuse else None
        if used is not None:
            try:
                return await self._exchange(pool, used, call, sink)
            except UpstreamBrokeOff as failure:
                if not may_go_again(may_reuse=may_reuse, was_used=True, has_arrived=failure.arrived):
                    raise
        return await self._exchange(pool, await pool.connect(), call, sink)

    async def _exchange(
        self, pool: Pool, connection: UpstreamConnection, call: UpstreamCall, sink: ResponseSink
    ) -> ResponseHead:
        try:
            if call.before is not None and self._clock() >= call.before:  # a connection may have taken seconds
                raise UpstreamTimeout("The upstream could not be asked in time.")
            connection.ask(self._head(pool.target, call), len(call.body or b""), bodiless=False)
            if call.body:
                connection.send(call.body)
                connection.send_end()
            await connection.answered
            head = connection.head_or_failure()
            sink.begin(head)
            await connection.flow(sink, looks_inside=True)
        except BaseException:
            pool.discard(connection)
            raise
        pool.give_back(connection, self._clock())
        await sink.end()
        return head

    def _head(self, upstream: UpstreamTarget, call: UpstreamCall) -> bytes:
        lines = [
            f"{call.method} {call.target} HTTP/1.1",
            f"Host: {upstream.authority}",
            "Accept: application/json",
        ]
        lines += ("Accept-Encoding: identity", f"X-Request-Id: {self._new_id()}", VIA.decode())
        if call.body:
            lines += ("Content-Type: application/json", f"Content-Length: {len(call.body)}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")
