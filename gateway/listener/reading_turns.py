"""What a client sends is read in turns, as far as somebody wants it: the part of a connection that reads.

- What comes waits until somebody wants it: a head, a body, or nobody, and then no more is read from the socket.
- A turn of the loop reads a bounded number of bytes and of chunks; what is left over waits for the next turn.

It knows its connection only while that waits for a head, and the transport until that is lost: references in a circle
would leave both to the garbage collection.
"""

import asyncio
from typing import Final, Protocol

from aiohttp.streams import StreamReader

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.aio.tls.transport import STRANGERS_READ, TlsTransport
from gateway.aio.turn import LITTLE_WORK_BYTES, Turn
from gateway.http.headers import MAX_HEAD_BYTES
from gateway.listener.request_reader import RequestReader


class HeadWaiter(Protocol):
    """Who waits for a head."""

    is_deaf: bool
    """Whether it wants no further request."""

    def check_still_waits(self) -> None:
        """Called after others had their turn; raises whatever ends the wait."""

    def note_head(self) -> None:
        """A part of the head has come."""


class ReadingTurns:
    """Reads for one connection, in turns that it shares with its address (`client_prefix`)."""

    __slots__ = (
        "_arrival",
        "_iteration",
        "_loop",
        "_more_body",
        "_my_turn",
        "_prefix",
        "is_paused",
        "most_ahead",
        "reader",
        "transport",
        "turn",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, iteration: Iteration, client_prefix: bytes) -> None:
        self.turn: Final = Turn(iteration)
        self.reader: Final = RequestReader(loop, self.turn)
        self.transport: TlsTransport | None = None
        self.is_paused = False  # nothing is read from the socket
        self.most_ahead = STRANGERS_READ  # bytes that may wait while nobody awaits them
        self._iteration = iteration
        self._loop = loop
        self._prefix = client_prefix
        self._arrival = Signal()
        self._more_body = Signal()
        self._my_turn = Signal()

    def close(self) -> None:
        """Drops what came and the transport: it is lost."""
        self.transport = None
        self.reader.clear()

    @property
    def awaits_head(self) -> bool:
        """Whether somebody waits for more of a head."""
        return self._arrival.is_awaited

    @property
    def awaits_turn(self) -> bool:
        """Whether what came waits for its turn."""
        return self._my_turn.is_awaited

    # What comes

    def take(self, data: bytes) -> None:
        """Takes what came, in the clear."""
        self.turn.work()
        if self._arrival.is_awaited and self.reader.repeat(data):
            self._arrival.set()
        else:
            self.reader.add(data)
            self._wake()
        self.turn.rest()

    def _wake(self) -> None:
        """Wakes the coroutine that waits for more; what nobody awaits is bounded, up to one read's bytes."""
        if self._arrival.is_awaited:
            self._arrival.set()
        elif self._more_body.is_awaited:
            self._more_body.set()
        elif self.reader.waiting > self.most_ahead:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if not self.is_paused and self.transport is not None:
            self.is_paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        """Lets more come, once all that came is parsed."""
        if self.is_paused and self.transport is not None:
            self.is_paused = False
            self.transport.resume_reading()

    def listen(self) -> None:
        """Reads on while a request is served, so that a client that leaves is noticed; what comes is bounded."""
        if self.is_paused and self.reader.waiting <= self.most_ahead:
            self._read_on()

    def read_much(self) -> None:
        """Lets more wait than a stranger may: the client has shown who it is."""
        self.most_ahead = MAX_HEAD_BYTES
        if self.transport is not None:
            self.transport.read_much()

    # What is wanted

    async def until_head(self, waiter: HeadWaiter) -> None:
        """Waits until the next head has come, or is not wanted any more.

        Raises:
            Refused: it is too large.
        """
        reader = self.reader
        self.turn.work()
        while not reader.has_request and not waiter.is_deaf:
            if self.turn.is_over:
                await self._let_others_have_a_turn()
                waiter.check_still_waits()
            elif reader.has_unread:
                reader.feed_head()
                if reader.has_begun:
                    waiter.note_head()
            else:
                self._read_on()
                self.turn.rest()
                await self._arrival
                self.turn.work()

    async def next_piece(self, body: StreamReader) -> bytes:
        """Waits for the next bytes of a body; nothing once it has ended.

        StreamReader.readany would do the same one turn of the loop later, when the kernel's buffer has been read
        three times more: pieces three times as large, joined by a copy, and out of the processor's cache.

        Raises:
            Refused: body_malformed, also for a coding out of all proportion.
        """
        self.turn.work()
        while True:
            if self.turn.is_over:
                await self._let_others_have_a_turn()
            data = self.reader.read_body(body)
            if data or body.is_eof():
                return data
            if self.reader.has_unread:
                self.reader.feed_body(body)
            else:
                self._read_on()
                self.turn.rest()
                await self._more_body
                self.turn.work()

    async def has_come(self, body: StreamReader, size: int, within: float) -> bool:
        """Whether so many bytes of a body are here, read or not; waits for them, but no longer than `within` seconds.

        They have to be few enough to wait here (read_much).
        """
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            self._more_body.wake()
            self.turn.rest()

        timer: asyncio.TimerHandle | None = None
        try:
            while body.total_bytes + self.reader.waiting < size and not is_late:
                timer = timer or self._loop.call_later(within, give_up)
                self._read_on()
                self.turn.rest()
                await self._more_body
                self.turn.work()
        finally:
            if timer is not None:
                timer.cancel()
        return not is_late

    # Turns

    async def time_for(self, size: int) -> None:
        """Waits for an iteration with time, before so many bytes are read in one piece that can't be interrupted."""
        if size > LITTLE_WORK_BYTES and self._iteration.is_over:
            await self.wait_for_turn(is_large=True)
            self.turn.work()

    async def _let_others_have_a_turn(self) -> None:
        """Ends the reading for this turn of the loop: libuv would go on while there is more, 8 MB at a time."""
        self._stop_reading()
        await self.wait_for_turn()
        self.turn.work()

    async def wait_for_turn(self, *, is_large: bool = False) -> None:
        """Lets others have their turn."""
        self.turn.rest()
        self._my_turn.clear()
        is_small = not is_large and self.turn.needs_little(self.reader.waiting)
        self._iteration.call_in_turn(self._begin_turn, self._prefix, is_small=is_small)
        await self._my_turn

    def _begin_turn(self) -> None:
        self._my_turn.set()
        self.turn.rest()  # what was resumed may wait for others now
