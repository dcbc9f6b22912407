"""How much of the loop one connection may take before all others have a turn: pure counting.

A turn is bounded by what it costs. Bytes alone say little: in chunks of one byte each byte of a body costs the parser
as much as a kilobyte in large ones. So chunks count, too, and above all time, whatever the work was.
"""

from collections.abc import Callable
from typing import Final

MOST_BYTES: Final = 524_288  # of the wire, in the clear
MOST_CHUNKS: Final = 2048  # each costs one to two microseconds, whatever is in it
MOST_SECONDS: Final = 0.003
SLICE: Final = 8192  # bytes of the wire that a parser is given at once: of 6 bytes each, chunks for two milliseconds


class Turn:
    """Counts for one connection. `clock` is one in seconds that goes on within a turn of the loop.

    Time counts between `work` and `rest` alone: who waits holds nobody up. Whoever finds that the turn `is_over` lets
    the loop go on, and then calls `renew`.
    """

    __slots__ = ("_bytes", "_chunks", "_clock", "_seconds", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bytes = 0
        self._chunks = 0
        self._seconds = 0.0
        self._since: float | None = None

    def work(self) -> None:
        """Lets time count from now on; if it does already, it goes on to."""
        if self._since is None:
            self._since = self._clock()

    def rest(self) -> None:
        """Lets time count no more, until the next `work`."""
        if self._since is not None:
            self._seconds += self._clock() - self._since
            self._since = None

    def spend(self, size: int, chunks: int = 0) -> None:
        """Counts bytes of the wire that were read, and the chunks that they were in."""
        self._bytes += size
        self._chunks += chunks

    @property
    def is_over(self) -> bool:
        """Whether others have their turn now."""
        if self._bytes >= MOST_BYTES or self._chunks >= MOST_CHUNKS:
            return True
        running = 0.0 if self._since is None else self._clock() - self._since
        return self._seconds + running >= MOST_SECONDS

    def renew(self) -> None:
        """The others had theirs: begins the next one."""
        self._bytes = self._chunks = 0
        self._seconds = 0.0
        if self._since is not None:
            self._since = self._clock()
