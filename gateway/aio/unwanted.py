"""Bytes that still arrive on a connection whose protocol reads no more.

Closing a socket before its peer's bytes are read would reset the connection, and the peer might lose the answer. So
these bytes are read and dropped for a while. That is cheap but not free: the kernel copies them, and libuv goes on
reading while there is more, 8 MB at a time. So each read waits for its turn (iteration.py), and their sum is bounded.
"""

from collections.abc import Callable, Hashable
from typing import Final

from gateway.aio.iteration import Iteration

AT_ONCE: Final = 65_536
"""Size in bytes of the buffer for such a read."""

MOST: Final = 67_108_864
"""Bytes. A client that sends a refused upload of this size to its end still receives the answer."""

_OF_A_CHUNK: Final = 2048  # bytes that cost as much to read as a chunk to parse (turn.py)


class Unwanted:
    """Decides when the socket may be read; `changed` is called when `may_read` becomes true again.

    The loop reads between its callbacks, where the time of an iteration is not measured. So each read is counted in
    advance, by the size of the one before.
    """

    __slots__ = ("_changed", "_iteration", "_last", "_left", "_peer", "may_read")

    def __init__(self, iteration: Iteration, peer: Hashable, changed: Callable[[], None]) -> None:
        self._iteration = iteration
        self._peer = peer
        self._changed = changed
        self._left = MOST
        self._last = 0
        self.may_read = True
        """Whether the socket may be read now."""

    def drop(self, size: int) -> None:
        """Counts a read of so many bytes. The next one waits for its turn; after MOST bytes there is none."""
        if not self.may_read:  # a transport may deliver once more after it was told to pause
            return
        self.may_read = False
        self._left -= size
        self._last = size
        if self._left > 0:
            self._iteration.call_in_turn(self._next_turn, self._peer)

    def _next_turn(self) -> None:
        self._iteration.add(0.0, self._last // _OF_A_CHUNK)
        self.may_read = True
        self._changed()
