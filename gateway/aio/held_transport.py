"""What stands between a protocol of aiohttp's and its transport: for reading in turns, and for an end within a bound.

Reading is paused by two: the protocol above, and the turns of its connection (turn.py).

aiohttp's protocols pause and resume their transport themselves, as bodies fill and are read and requests queue up.
Our pause between two turns would end as soon as aiohttp resumes the transport: libuv then reads on, 8 MB at a time.
Here each of the two says what it wants, and the socket is read while neither has paused it.

Closing sends what was written before, for which a transport waits without a deadline: a peer that reads nothing would
keep the socket and all that was written for ever. aiohttp closes so, and thinks no more of it. Here what a peer has
not taken is dropped `linger` seconds later.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any


class HeldTransport:
    """Passed to the protocol above as its transport. `on_wanted` is called when that protocol wants more again.

    `linger` is how many seconds a peer has to take the rest once this is closed.
    """

    __slots__ = ("_is_held", "_is_reading", "_linger", "_on_wanted", "_raw", "_too_late", "is_paused")

    def __init__(self, raw: asyncio.Transport, on_wanted: Callable[[], None], linger: float) -> None:
        self._raw = raw
        self._on_wanted = on_wanted
        self._linger = linger
        self._too_late: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._is_held = False
        self.is_paused = False
        """Whether the protocol above wants no more."""

    # Turns

    def hold(self) -> None:
        """Reads no more until `let_go`, whatever the protocol above says."""
        self._is_held = True
        self._read_or_not()

    def let_go(self) -> None:
        """Reads on, unless the protocol above paused."""
        self._is_held = False
        self._read_or_not()

    def forget(self) -> None:
        """Lets go of all: the connection is lost, and the protocol above may be kept by its last error."""
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None
        del self._raw, self._on_wanted

    # The transport of the protocol above

    def pause_reading(self) -> None:
        """Wants no more."""
        self.is_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """Wants more again."""
        was_paused, self.is_paused = self.is_paused, False
        if was_paused:
            self._on_wanted()
            self._read_or_not()

    def write(self, data: bytes) -> None:
        """Sends."""
        self._raw.write(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Sends them as one."""
        self._raw.writelines(pieces)

    def close(self) -> None:
        """Sends what was written, then the end; aborts if the peer has not taken that in time."""
        if self._too_late is None:
            self._too_late = asyncio.get_running_loop().call_later(self._linger, self._raw.abort)
        self._raw.close()

    def abort(self) -> None:
        """Drops the connection, and what was not sent."""
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._raw.is_closing()

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the socket, and of TLS."""
        return self._raw.get_extra_info(name, default)

    def _read_or_not(self) -> None:
        reads = not (self._is_held or self.is_paused)
        if reads is not self._is_reading:
            self._is_reading = reads
            if reads:
                self._raw.resume_reading()  # also of one that is closing: what came before may wait for that
            else:
                self._raw.pause_reading()
