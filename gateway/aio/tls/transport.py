"""TLS between a socket and a protocol of ours, decrypted in turns.

The loop's own TLS decrypts all that one read brings before anybody can say stop: 256 KB, which in records of one byte
are 11,000 records and a tenth of a second for everybody else. Here records are decrypted until the turn is over
(turn.py); what is left waits for the next turn, and nothing is read from the socket meanwhile.

States, and who moves them on:
    HANDSHAKE   from the start on. `_advance_handshake` ends it: OPEN, or CLOSED when the handshake fails.
    OPEN        the protocol above has its connection_made. `close` ends it, or the peer's close_notify, or its EOF.
    CLOSING     what was written and our close_notify are on their way; what comes is dropped unread (unwanted.py). A
                server waits for the peer's end: to close before the peer's bytes are read would cut off our answer.
                It sends no FIN before, for which some clients (uvloop's) drop what they have not read.
    LOST        the socket is gone, but what came before is still decrypted in turns: a client's end alone, which may
                be owed an answer. Its end, an abort or a failure ends it.
    CLOSED      the socket is lost, or about to be.
What can't happen: the protocol above hears of nothing before OPEN, of no data after it paused reading or after OPEN
and LOST, and of connection_lost exactly once if it ever heard of connection_made.
"""

import asyncio
import ssl
from collections.abc import Hashable, Iterable
from enum import Enum, auto
from typing import Any, Final, Protocol

from gateway.aio.departure import Departure
from gateway.aio.iteration import Iteration
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.handshake import Handshake, bare
from gateway.aio.tls.idle_records import IdleRecords, cost_of_idle
from gateway.aio.tls.openssl import TlsEngine
from gateway.aio.turn import Turn
from gateway.aio.unread import read_unread
from gateway.aio.unwanted import AT_ONCE, Unwanted

RECORD: Final = 8
"""As many chunks in the clear (turn.py) cost as much as one record: 2 to 9 microseconds, a KeyUpdate that asks 50."""

STRANGERS_READ: Final = 16_384
"""Bytes that a server reads at once until it is told more: what one read brings may have to wait, in this process."""

_MAX_UNASKED: Final = 1_048_576  # bytes that are not taken while TLS itself still answers


class TlsState(Enum):
    """See above."""

    # Enum's own hash is a Python function, and each read asks whether the state is one of some.
    __hash__ = object.__hash__

    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    LOST = auto()
    CLOSED = auto()


class Above(Protocol):
    """The protocol that is spoken in the clear."""

    def connection_made(self, transport: Any) -> None:
        """Called once the handshake is over."""

    def data_received(self, data: bytes) -> None:
        """Called with what came, in the clear."""

    def connection_lost(self, error: Exception | None) -> None:
        """Called once; the error says that the peer did not end it as TLS wants it ended."""

    def pause_writing(self) -> None:
        """Called when more is written than the peer takes."""

    def resume_writing(self) -> None:
        """Called when it takes more."""


class TlsTransport(asyncio.BufferedProtocol):
    """The protocol of a socket, and the transport of the protocol above. Belongs to one loop.

    `opened` is done when the handshake is over, well or not: `until_open` tells which.
    """

    __slots__ = (
        "_above",
        "_buffers",
        "_departure",
        "_engine",
        "_error",
        "_handshake",
        "_has_more",
        "_idle",
        "_is_announced",
        "_is_full",
        "_is_paused",
        "_is_reading",
        "_is_scheduled",
        "_iteration",
        "_loop",
        "_raw",
        "_read_to",
        "_rest",
        "_state",
        "_turn",
        "_unwanted",
        "_waits_since",
        "opened",
        "peer",
        "waited",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        above: Above,
        buffers: TlsBuffers,
        iteration: Iteration,
        *,
        peer: Hashable = None,
        server: str | None = None,
    ) -> None:
        """Begins a handshake once the socket is there: with the `server` of that name, or as a server itself.

        `peer` is whose turn it takes where many wait (Iteration.call_in_turn).
        """
        self._above = above
        self._buffers = buffers
        self._read_to = buffers.wire if server is not None else buffers.wire[:STRANGERS_READ]
        self._engine = TlsEngine(context, server)
        self._loop = asyncio.get_running_loop()
        self._raw: asyncio.Transport | None = None
        self._departure: Departure | None = None
        self._rest = b""  # of what was read, for the next turn
        self._has_more = False  # after what is decrypted now
        self._idle = IdleRecords()
        self._iteration = iteration
        self.peer = peer
        self._turn = Turn(iteration)
        self._is_scheduled = False  # the next turn will come by itself
        self._unwanted: Unwanted | None = None  # what comes while CLOSING
        self._waits_since = 0.0
        self._is_paused = False  # by the protocol above
        self._is_full = False  # what was written is more than the peer takes
        self._is_reading = True
        self._is_announced = False  # to the protocol above
        self._error: Exception | None = None  # for the protocol above
        self._state = TlsState.HANDSHAKE
        self._handshake = Handshake(self._engine, buffers.threads)
        self.opened = self._handshake.over
        self.waited = 0.0
        """Seconds in which what the peer sent waited for its turn: no fault of the peer's."""

    def __repr__(self) -> str:
        paused = " paused" if self._is_paused else ""
        in_thread = " in a thread" if self._handshake.is_in_thread else ""
        return f"<TlsTransport {self._state.name.lower()}{paused}{in_thread} waiting={len(self._rest)}>"

    async def until_open(self) -> None:
        """Waits for the end of the handshake.

        Raises:
            ssl.SSLError, ConnectionError: it failed.
            UnicodeError: the certificate has a name that is no text.
        """
        await self._handshake.until_over()

    # The transport of the protocol above

    def write(self, data: bytes) -> None:
        """Encrypts and sends; after the end it drops."""
        if self._state is not TlsState.OPEN or not data:
            return
        try:
            sealed = self._engine.seal(data)
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._send(sealed)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Sends them as one."""
        self.write(b"".join(pieces))

    def pause_reading(self) -> None:
        """Gives the protocol above no more."""
        self._is_paused = True
        self._read_or_wait()

    def resume_reading(self) -> None:
        """Gives it more; not before this call is over."""
        self._is_paused = False
        self._read_or_wait()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Those of the socket."""
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high=high, low=low)

    def read_much(self) -> None:
        """Reads as much at once as a client does, from now on: the peer may let that wait here."""
        if self._unwanted is None:
            self._read_to = self._buffers.wire

    def get_write_buffer_size(self) -> int:
        """What the kernel has not taken, in bytes, encrypted."""
        return 0 if self._raw is None else self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Besides what the socket tells: `ssl_object`, `sslcontext` and `peercert`, as asyncio's transports do.

        `verified_chain` is the chain of the peer's certificate, as verified_chain.py has it.
        """
        if name == "peercert":
            return self._engine.peercert
        if name == "verified_chain":
            return self._engine.chain
        if name == "ssl_object":
            return self._engine.object
        if name == "sslcontext":
            return self._engine.object.context
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    @property
    def has_unread(self) -> bool:
        """Whether something came, or may have, that the protocol above has not been given; be it half a record."""
        waits = bool(self._rest) or self._has_more or self._is_scheduled
        return waits or not self._is_reading or self._engine.is_within_record

    @property
    def is_lost(self) -> bool:
        """Whether the socket is gone, though the protocol above may hear of it in a later turn."""
        return self._raw is None

    @property
    def waits(self) -> bool:
        """Whether something came that waits for its turn."""
        return self._is_scheduled and self._may_deliver()

    def has_left(self, *, or_says_no_more: bool) -> bool:
        """Asks the kernel whether the peer broke the connection off, which nobody notices while nothing is read.

        `or_says_no_more`: a peer that sends no more counts as one that left.
        """
        if self._is_reading or self._raw is None:
            return False
        if self._departure is None:
            self._departure = Departure(self._raw.get_extra_info("socket"))
        return self._departure.has_happened(or_says_no_more=or_says_no_more)

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._state in _ENDING or self._raw is None or self._raw.is_closing()

    def close(self) -> None:
        """Sends what was written, then the end. A server waits for the peer's end, until it is aborted."""
        if self._state is TlsState.OPEN and self._raw is not None:
            self._send_end()
            if self._engine.is_server:
                self._read_or_wait()
            else:
                self._raw.close()
        elif self._state is TlsState.LOST:
            self.abort()

    def abort(self) -> None:
        """Drops the connection, and what was not sent."""
        was_lost, self._state = self._state is TlsState.LOST, TlsState.CLOSED
        self._handshake.leave()
        if self._raw is not None:
            self._raw.abort()
        elif was_lost:
            self._loop.call_soon(self._notify_end)

    # The protocol of the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._raw = transport  # type: ignore[assignment] # a stream's
        if self._state is TlsState.CLOSED:
            self.abort()
        elif not self._engine.is_server:
            self._advance_handshake()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop: where it is to read to."""
        del sizehint
        return self._read_to

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop, when it read so much."""
        came = self._buffers.wire[:nbytes]
        if self._state in _ENDING:
            if self._unwanted is not None:
                self._unwanted.drop(nbytes)
                self._read_or_wait()
            return
        if self._rest or self._iteration.is_full:  # a transport may deliver once more after it was told to pause
            self._rest += came
            self._read_or_wait()
        elif self._state is TlsState.OPEN and self._is_reading and self._engine.is_one(came):
            self._take_one(came)
        else:
            self._decrypt(came)

    def eof_received(self) -> bool:
        """Called by the loop: the peer sends no more. A server's answer that lasts until the end may be cut short."""
        if self._state is TlsState.OPEN and not self._engine.is_server:
            self._error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the end came without close_notify")
        return False  # the transport closes

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop, once. What a server said before that is read; then the protocol above is told."""
        self._handshake.leave()
        if not self.opened.done():
            self._handshake.end(error or ConnectionResetError("the peer hung up within the handshake"))
        may_be_owed = self._state is TlsState.OPEN and not self._engine.is_server
        if may_be_owed and error is not None and self._raw is not None:
            self._rest += read_unread(self._raw)
        self._raw = None
        if self._is_announced:
            self._error = self._error or bare(error)
        if may_be_owed and self._rest:
            self._state = TlsState.LOST
            if self._is_full:  # what is written now is dropped
                self.resume_writing()
            self._read_or_wait()
        else:
            self._state = TlsState.CLOSED
            self._rest = b""
            self._unwanted = None  # it holds this transport, and would keep it until a garbage collection
            self._notify_end_in_turn()

    def _notify_end_in_turn(self) -> None:
        """Many may be lost at once."""
        if self._iteration.is_over:
            self._iteration.call_in_turn(self._notify_end, self.peer, is_small=True)
        else:
            begun = self._iteration.clock()
            self._notify_end()
            self._iteration.add(self._iteration.clock() - begun, 0)

    def _notify_end(self) -> None:
        if self._state is TlsState.LOST and self._rest:  # the protocol above paused when it had the first of it
            return
        self._state = TlsState.CLOSED
        self._rest = b""
        if self._is_announced:
            self._is_announced = False
            error, self._error = self._error, None
            self._above.connection_lost(error)
            del self._above  # it may hold this still

    def pause_writing(self) -> None:
        """Called by the loop."""
        if self._is_announced:
            self._is_full = True
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Called by the loop."""
        if self._is_announced:
            self._is_full = False
            self._above.resume_writing()

    # Turns

    def _take_one(self, came: memoryview) -> None:
        """As _decrypt does, for what most reads are: one record, and time for it."""
        self._turn.spend(len(came), RECORD)
        try:
            data = self._engine.open_one(came)
        except ssl.SSLWantReadError:
            self._turn.spend(0, cost_of_idle(len(came)))
            self._deliver(b"", is_ended=False)
            self._count_idle(1, len(came))  # it was a message of TLS itself
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._deliver(data, is_ended=not data)
        if self._turn.is_over:
            self._read_or_wait()

    def _decrypt(self, came: memoryview) -> None:
        """Goes through what came, as far as this turn goes and the protocol above wants more."""
        turn = self._turn
        turn.work()
        # A handshake costs a millisecond at once: it begins when the iteration has time for it.
        waits = self._state is TlsState.HANDSHAKE and self._iteration.is_over
        while came and not waits and not turn.is_over and self._may_deliver():
            came = self._read(came) if self._state in _DELIVERING else self._take_step(came)
        turn.rest()
        self._has_more = False
        self._rest = b"" if self._state in _ENDING else bytes(came)
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        """Lets the next turn come when it is due, and the socket be read while there is nothing else to do."""
        is_over = bool(self._rest) or self._turn.is_over
        if is_over and self._may_deliver() and not self._is_scheduled:
            self._is_scheduled = True
            self._waits_since = self._iteration.clock()
            is_small = self._state is TlsState.HANDSHAKE or self._turn.needs_little(len(self._rest))
            self._iteration.call_in_turn(self._next_turn, self.peer, is_small=is_small)
        reads = self._unwanted.may_read if self._unwanted is not None else not is_over and self._may_deliver()
        raw = self._raw
        if self._state is TlsState.LOST and not self._rest:
            self._loop.call_soon(self._notify_end)
        if raw is not None and reads is not self._is_reading and not raw.is_closing():
            self._is_reading = reads
            if reads:
                raw.resume_reading()
            else:
                raw.pause_reading()

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self.waited += self._iteration.clock() - self._waits_since
        if self._rest and self._may_deliver():
            rest, self._rest = self._rest, b""
            self._decrypt(memoryview(rest))
        else:
            self._read_or_wait()

    def _may_deliver(self) -> bool:
        if self._state is TlsState.HANDSHAKE:
            return not self._handshake.is_in_thread
        return self._state in _DELIVERING and not self._is_paused

    # TLS

    def _take_step(self, came: memoryview) -> memoryview:
        """Takes what one step of the handshake reads; returns what is left."""
        try:
            size, ended = self._engine.feed(came)
        except ssl.SSLError as error:
            self._fail(error)
            return came
        self._turn.spend(size, RECORD * ended)
        left = came[size:]
        self._has_more = bool(left)
        if self._advance_handshake() and self._may_deliver():
            self._read(left[:0])  # what came with the end of the handshake
        return left

    def _advance_handshake(self) -> bool:
        """Advances the handshake; returns whether it is complete."""
        try:
            is_complete = self._handshake.step(self._source, self._on_step_done)
        except (ssl.SSLError, UnicodeError) as error:
            self._fail(error)
            return False
        if self._handshake.is_in_thread:
            return False
        return self._after_handshake_step(is_complete=is_complete)

    def _on_step_done(self) -> None:
        """A thread has taken a step."""
        result = self._handshake.result()
        if isinstance(result, Exception):
            self._fail(result)
        else:
            self._after_handshake_step(is_complete=result)
        self._read_or_wait()

    def _after_handshake_step(self, *, is_complete: bool) -> bool:
        self._flush()
        if not is_complete:
            return False
        if self.opened.done():  # nobody waits any more: its time was over in this very turn
            self.abort()
            return False
        self._state = TlsState.OPEN
        self._is_announced = True
        self._above.connection_made(self)
        self._handshake.end()
        return True

    @property
    def _source(self) -> Hashable:
        """Whose certificates are read: of a client whom we turn to, of a server who it is."""
        if self._engine.is_server or self._raw is None:
            return self.peer
        # asyncio has None where the peer had left before it asked for its address.
        address: tuple[Hashable, ...] | None = self._raw.get_extra_info("peername")
        return self.peer if address is None else address[0]

    def _read(self, came: memoryview) -> memoryview:
        """Decrypts what came, as far as one step goes, and delivers it; returns what is left."""
        clear = self._engine.open(came, self._buffers.clear, self._is_turn_over)
        self._turn.spend(clear.taken, RECORD * clear.records)
        left = came[clear.taken :]
        self._has_more = bool(left) or clear.is_ended or clear.error is not None
        self._turn.rest()
        self._deliver(bytes(self._buffers.clear[: clear.size]), is_ended=clear.is_ended)
        self._turn.work()
        if clear.error is not None:
            self._fail(clear.error)
        elif clear.idle:
            self._count_idle(clear.idle, clear.idle_bytes)
        return left

    def _is_turn_over(self) -> bool:
        return self._turn.is_over

    def _deliver(self, data: bytes, *, is_ended: bool) -> None:
        if self._engine.has_output:
            self._flush()
            if self.get_write_buffer_size() > _MAX_UNASKED:
                self.abort()
                return
        if data:
            self._above.data_received(data)
        if is_ended and self._state is TlsState.OPEN and self._raw is not None:
            # Without our close_notify: an answer that lasts until the end may be cut short.
            self._state = TlsState.CLOSED
            self._raw.close()
        elif is_ended and self._state is TlsState.LOST:
            self._error = None  # it had said so before it broke off
            self.abort()

    def _count_idle(self, records: int, size: int) -> None:
        self._idle.add(records, size)
        if self._idle.are_too_many:
            self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, "too many records without data"))

    def _send_end(self) -> None:
        self._state = TlsState.CLOSING
        self._unwanted = Unwanted(self._iteration, self.peer, self._read_or_wait)
        self._read_to = self._buffers.wire[:AT_ONCE]
        self._rest = b""
        self._engine.end()
        self._flush()

    def _flush(self) -> None:
        if self._engine.has_output and self._raw is not None:
            self._raw.write(self._engine.take_output())

    def _send(self, sealed: list[bytes]) -> None:
        if self._raw is None:
            return
        if len(sealed) == 1:
            self._raw.write(sealed[0])
        else:
            self._raw.writelines(sealed)

    def _fail(self, error: Exception) -> None:
        """Sends the alert that there is for the peer, and closes."""
        if self._state is not TlsState.CLOSED:
            self._state = TlsState.CLOSED
            if not self.opened.done():
                self._handshake.end(error)
            elif self._is_announced:
                self._error = bare(error)
            self._flush()
            if self._raw is not None:
                self._raw.close()
            elif self._is_announced:
                self._loop.call_soon(self._notify_end)


_ENDING: Final = frozenset({TlsState.CLOSING, TlsState.CLOSED})
_DELIVERING: Final = frozenset({TlsState.OPEN, TlsState.LOST})
