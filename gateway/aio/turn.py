"""How much of the event loop one connection may take before all others have a turn: pure counting.

A turn is bounded by what it costs. Bytes alone say little: in chunks of one byte each byte of a body costs the parser
as much as a kilobyte in large ones. So chunks count, too, and above all time, whatever the work was. Where all
connections together have taken what an iteration of the loop may give (iteration.py), a turn ends sooner.
"""

from typing import Final

from gateway.aio.iteration import Iteration

MAX_BYTES: Final = 524_288  # of the wire, in the clear
MAX_CHUNKS: Final = 2048  # each costs one to two microseconds, whatever is in it
MAX_SECONDS: Final = 0.003
SMALL: Final = 8
"""This part of a turn each connection has, whatever others take: most requests need no more."""

FEW_BYTES: Final = 4096
"""More than a poll has with a token, and less than heads of those who want to cost much."""

SLICE: Final = 8192  # bytes of the wire that a parser is given at once: of 6 bytes each, chunks for two milliseconds


class Turn:
    """Counts for one connection, anew in each iteration of its loop.

    Time counts between `work` and `rest` alone: who waits holds nobody up. Whoever finds that the turn `is_over` lets
    the loop go on until the iteration calls it: Iteration.wait.
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
        """Lets time count from now on; if it does already, it goes on to."""
        if self._number != self._iteration.number:
            self._begin()
        if self._since is None:
            self._since = self._iteration.clock()

    def rest(self) -> None:
        """Lets time count no more, until the next `work`."""
        if self._since is not None:
            self._tell(self._iteration.clock() - self._since)
            self._since = None

    def spend(self, size: int, chunks: int = 0) -> None:
        """Counts bytes of the wire that were read, and the chunks that they were in."""
        if self._number != self._iteration.number:
            self._begin()
        self._bytes += size
        if chunks:
            self._chunks += chunks
            self._iteration.add(0.0, chunks)

    @property
    def is_over(self) -> bool:
        """Whether others have their turn now."""
        if self._number != self._iteration.number:
            self._begin()
        if self._since is not None:
            now = self._iteration.clock()
            self._tell(now - self._since)
            self._since = now
        if self._bytes >= MAX_BYTES or self._chunks >= MAX_CHUNKS or self._seconds >= MAX_SECONDS:
            return True
        return self._iteration.is_over and not self.is_small

    @property
    def is_small(self) -> bool:
        """Whether no more was taken of this turn than each has in any case."""
        return self._seconds < MAX_SECONDS / SMALL and self._chunks < MAX_CHUNKS // SMALL

    def needs_little(self, waiting: int) -> bool:
        """Whether little was taken of this turn, and so few bytes wait that little more will be."""
        return self.is_small and waiting <= FEW_BYTES

    def _begin(self) -> None:
        self._number = self._iteration.number
        self._bytes = self._chunks = 0
        self._seconds = 0.0
        if self._since is not None:
            self._since = self._iteration.clock()

    def _tell(self, seconds: float) -> None:
        self._seconds += seconds
        self._iteration.add(seconds, 0)
