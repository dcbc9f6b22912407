"""Limits how much of the event loop one connection takes before all others have a turn: pure counting.

A turn is limited by its cost. Bytes alone say little: a body byte in a one-byte chunk costs the parser as much as a
kilobyte in a large chunk. So chunks count, too, and above all time, whatever the work is. A turn ends sooner when all
connections together have used up an iteration of the loop (iteration.py).
"""

from typing import Final

from gateway.aio.iteration import Iteration

MAX_BYTES: Final = 524_288  # on the wire, after TLS decryption
MAX_CHUNKS: Final = 2048  # each costs one to two microseconds, whatever its size
MAX_SECONDS: Final = 0.003
SMALL: Final = 8
"""Each connection has this fraction of a turn, whatever others use: most requests need no more."""

LITTLE_WORK_BYTES: Final = 4096
"""More than a poll with a token needs, and less than heads that are meant to be expensive."""

SLICE: Final = 8192  # wire bytes given to a parser at once: as chunks of 6 bytes each, they take two milliseconds


class Turn:
    """Counts one connection's work, anew in each iteration of its loop.

    Time counts only between `work` and `rest`: a waiting connection delays no other. When the turn `is_over`, the
    connection must let the loop go on until the iteration calls it: Iteration.call_in_turn.
    """

    __slots__ = ("_bytes", "_chunks", "_iteration", "_number", "_seconds", "_since")

    def __init__(self, iteration: Iteration) -> None:
        self._iteration = iteration
        self._number = iteration.number
        self._bytes = 0
        self._chunks = 0
        self._seconds = 0.0
        self._since: float | None = None

    def work(self) -> None:
        """Starts the clock; if it runs already, it keeps running."""
        if self._number != self._iteration.number:
            self._begin()
        if self._since is None:
            self._since = self._iteration.clock()

    def rest(self) -> None:
        """Stops the clock until the next `work`."""
        if self._since is not None:
            self._add_seconds(self._iteration.clock() - self._since)
            self._since = None

    @property
    def is_at_work(self) -> bool:
        """Whether time counts."""
        return self._since is not None

    def spend(self, size: int, chunks: int = 0) -> None:
        """Counts bytes read from the wire, and the chunks that contained them."""
        if self._number != self._iteration.number:
            self._begin()
        self._bytes += size
        if chunks:
            self._chunks += chunks
            self._iteration.add(0.0, chunks)

    @property
    def is_over(self) -> bool:
        """Whether the connection must let others have their turn now."""
        if self._number != self._iteration.number:
            self._begin()
        if self._since is not None:
            now = self._iteration.clock()
            self._add_seconds(now - self._since)
            self._since = now
        if self._bytes >= MAX_BYTES or self._chunks >= MAX_CHUNKS or self._seconds >= MAX_SECONDS:
            return True
        return self._iteration.is_over and not self._is_small

    @property
    def _is_small(self) -> bool:
        """Whether no more of this turn is used than every connection may use in any case."""
        return self._seconds < MAX_SECONDS / SMALL and self._chunks < MAX_CHUNKS // SMALL

    def needs_little(self, waiting: int) -> bool:
        """Whether little of this turn is used, and so few bytes wait that little more will be."""
        return self._is_small and waiting <= LITTLE_WORK_BYTES

    def _begin(self) -> None:
        self._number = self._iteration.number
        self._bytes = self._chunks = 0
        self._seconds = 0.0
        if self._since is not None:
            self._since = self._iteration.clock()

    def _add_seconds(self, seconds: float) -> None:
        self._seconds += seconds
        self._iteration.add(seconds, 0)
