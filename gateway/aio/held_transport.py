"""A transport whose reading is paused by two: the protocol above it, and the turns of its connection (turn.py).

aiohttp's protocols pause and resume their transport themselves, as bodies fill and are read and requests queue up.
Our pause between two turns would end as soon as aiohttp resumes the transport: libuv then reads on, 8 MB at a time.
Here each of the two says what it wants, and the socket is read while neither has paused it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any


class HeldTransport:
    """Passed to the protocol above as its transport. `on_wanted` is called when that protocol wants more again."""

    __slots__ = ("_is_held", "_is_reading", "_on_wanted", "_raw", "is_paused")

    def __init__(self, raw: asyncio.Transport, on_wanted: Callable[[], None]) -> None:
        self._raw = raw
        self._on_wanted = on_wanted
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
        """Sends what was written, then the end."""
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
