"""What the upstream sends is read in turns: the part of a connection that reads.

A turn of the loop reads a bounded number of bytes and of chunks, and for so long; what is left over waits for the
next turn. What the parser or the sink looks into comes in slices: what it costs may depend on what it says.

A sink that is behind with what it was given (it undoes a content coding) goes on in turns, too, and meanwhile nothing
is read: a megabyte that is coded may be a gigabyte.

States, and what ends each:
    reading  what comes is taken at once (`add`), the socket is read. The end of a turn leads to over, `pause` to
             paused.
    over     another turn will come; until then nothing is taken, and nothing read. `_begin_turn` ends it, which leads
             to reading, or to over again where too much waits (`_backlog`) or the sink is still behind (`behind`).
    paused   whoever takes the body wants no more of it now; nothing is read. `resume` ends it. A turn that was over
             meanwhile comes all the same, and finds nothing to do.
    lost     the transport is gone (`lose`). What came before is taken in turns of its own, whatever the state was;
             then `finish` tells the end.
What can't happen: what comes within over is taken before the next turn; the socket is read within over or paused.

It knows its connection by `take`, and the transport, until that is lost.
"""

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from gateway.aio.drive import Signal
from gateway.aio.iteration import Iteration
from gateway.aio.tls.transport import TlsTransport
from gateway.aio.turn import SLICE, Turn
from gateway.aio.unread import read_unread
from gateway.upstream.body_sink import GoOn
from gateway.upstream.response_reader import AnswerReader

READ: Final = 16_384
"""Bytes of a body that a sink reads at once: two milliseconds of the costliest JSON."""

_ALL: Final = 0
Take = Callable[[bytes], int]


class AnswerTurns:
    """Gives what comes to `take`, which says how many chunks were in it; in the turns of `peer`."""

    __slots__ = (
        "_backlog",
        "_has_more",
        "_is_over",
        "_is_paused",
        "_iteration",
        "_reader",
        "_take",
        "_transport",
        "_turn",
        "behind",
        "looks_inside",
        "peer",
    )

    def __init__(
        self, iteration: Iteration, transport: asyncio.Transport | TlsTransport, reader: AnswerReader, take: Take
    ) -> None:
        self.peer: Hashable = None
        self.looks_inside = False  # the sink parses the body, or changes it
        self.behind: GoOn | None = None  # what the sink has to do before it gets more of this answer
        self._iteration = iteration
        self._transport: asyncio.Transport | TlsTransport | None = transport
        self._reader = reader
        self._take: Take | None = take
        self._turn = Turn(iteration)
        self._backlog = b""
        self._has_more = False
        self._is_over = False
        self._is_paused = False

    @property
    def is_paused(self) -> bool:
        """Whether the reading was stopped."""
        return self._is_paused

    @property
    def has_unread(self) -> bool:
        """Whether more may have come than was looked at: a turn that ended with the answer leaves it unseen."""
        return self._has_more or self._is_over or bool(self._backlog)

    def add(self, data: bytes) -> None:
        """Takes the next bytes, as far as this turn goes."""
        if self._backlog:  # a transport may deliver once more after it was told to pause
            self._backlog += data
        elif self._iteration.is_full:  # many may be answered at once
            self._backlog = data
            self._end_turn()
        else:
            self._read(data)

    def pause(self) -> None:
        """Stops reading until `resume`."""
        if self._transport is not None and not self._is_paused:
            self._is_paused = True
            if not self._is_over:
                self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._transport is not None and self._is_paused:
            self._is_paused = False
            if self._is_over:
                return
            if self._iteration.is_full and (self._backlog or self._is_behind):  # many clients may read on at once
                self._wait_for_turn()
            else:
                self._read_on()

    def drop(self) -> None:
        """Forgets what waits."""
        self._backlog = b""

    async def hand_on(self, data: bytes, take: Callable[[bytes], GoOn | None]) -> None:
        """Gives a sink that looks inside what was held; when a turn is over, others have theirs."""
        for start in range(0, len(data), READ):
            if self._turn.is_over:
                called = Signal()
                self._end_turn()  # its end comes first, so that the connection may be used again
                self._iteration.call_in_turn(called.set, self.peer)
                await called
            self._spend_on(data[start : start + READ], take)

    def lose(self, *, reads_rest: bool) -> None:
        """The transport is lost; what the kernel still has of a plain connection is added to what waits."""
        transport, self._transport = self._transport, None
        if reads_rest and transport is not None and not isinstance(transport, TlsTransport):
            self._backlog += read_unread(transport)

    def finish(self, end: Callable[[], None]) -> None:
        """Takes what came before the transport was lost and had no turn yet, a slice in each turn, and then ends."""
        if self._iteration.is_over:  # many may be lost at once
            self._iteration.call_in_turn(partial(self._take_last, end), self.peer)
        else:
            self._turn.work()
            self._take_last(end)
            self._turn.rest()

    def _take_last(self, end: Callable[[], None]) -> None:
        piece, self._backlog = self._backlog[:SLICE], self._backlog[SLICE:]
        if piece:
            self._given(piece)
        if self._backlog:
            self._iteration.call_in_turn(partial(self._take_last, end), self.peer)
            return
        self._take = None
        end()

    def _given(self, data: bytes) -> int:
        return self._take(data) if self._take is not None else 0

    def _read(self, data: bytes) -> None:
        """Takes what came, as far as this turn of the loop goes; the rest waits for the next turn."""
        turn, size = self._turn, self._most_at_once
        if size != _ALL and len(data) > size:
            data = self._read_in_slices(data)
            if data and self._is_over:
                self._backlog = data
                return
        if data:
            self._has_more = False
            turn.work()
            turn.spend(len(data), self._given(data))
            turn.rest()
            if turn.is_over or self._is_behind:
                self._end_turn()

    @property
    def _most_at_once(self) -> int:
        """How many bytes are taken at once: any, of what is neither parsed nor read."""
        if not self._reader.is_counted:
            return SLICE
        return READ if self.looks_inside else _ALL

    def _read_in_slices(self, data: bytes) -> bytes:
        """Takes a little at a time, as long as what that costs is known only afterwards; gives what is left."""
        turn, place = self._turn, 0
        turn.work()
        while place < len(data) and (size := self._most_at_once) != _ALL:
            piece = data[place : place + size]
            place += len(piece)
            self._has_more = place < len(data)
            turn.spend(len(piece), self._given(piece))
            if turn.is_over or self._is_behind:
                self._end_turn()
                break
        turn.rest()
        return data[place:]

    def _spend_on(self, data: bytes, take: Callable[[bytes], GoOn | None]) -> None:
        turn = self._turn
        is_begun = turn.is_at_work  # the answer's head may just be read
        turn.work()
        self.behind = take(data)
        turn.spend(len(data))
        if not is_begun:
            turn.rest()

    def _end_turn(self) -> None:
        """Lets others have a turn: libuv would go on while there is more, 8 MB at a time."""
        if self._transport is not None and not self._is_over:
            if not self._is_paused:
                self._transport.pause_reading()
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._is_over = True
        self._iteration.call_in_turn(self._begin_turn, self.peer)

    def _begin_turn(self) -> None:
        self._is_over = False
        if not self._is_paused and self._transport is not None:
            self._read_on()

    @property
    def _is_behind(self) -> bool:
        """Whether the sink has to go on before it gets more; behind the answer's end it does so by itself."""
        return self.behind is not None and not self._reader.is_whole

    def _catch_up(self) -> None:
        """Lets the sink do what it is behind with, as far as this turn goes."""
        turn = self._turn
        turn.work()
        while self._is_behind and not turn.is_over:
            self.behind = self.behind if self.behind is not None and self.behind() else None
        turn.rest()

    def _read_on(self) -> None:
        """Takes what waits, then reads on, unless that was too much again."""
        self._catch_up()
        if self._is_behind:
            self._wait_for_turn()
            return
        backlog, self._backlog = self._backlog, b""
        if backlog:
            self._read(backlog)
        if self._transport is not None and not (self._is_over or self._is_paused):
            self._transport.resume_reading()  # also of one that is closing: what came before may wait for that
