"""How much of one iteration of the loop all connections together may take: turns bound each alone (turn.py).

A connection whose turn is over waits here, behind those that wait already. Each iteration serves as many of them as
its time allows, the others in later ones: sixty clients that flood hold the loop no longer than two do. Who needs
little is never asked to wait, however many flood: see SMALL in turn.py.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

MOST_SECONDS: Final = 0.004
MOST_CHUNKS: Final = 3072  # as in turn.py
_LITTLE: Final = MOST_SECONDS / 4  # to be called in each iteration would cost each a poll of the kernel
_FEW: Final = MOST_CHUNKS // 4


class Iteration:
    """Of one loop. `clock` is one in seconds that goes on within an iteration, `call_soon` is the loop's own.

    `number` changes with each iteration, but while so little happens that nobody needs to count.
    """

    __slots__ = ("_call_soon", "_chunks", "_is_scheduled", "_seconds", "_waiting", "clock", "number")

    def __init__(self, clock: Callable[[], float], call_soon: Callable[[Callable[[], None]], Any]) -> None:
        self.clock = clock
        self.number = 0
        self._call_soon = call_soon
        self._seconds = 0.0
        self._chunks = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def add(self, seconds: float, chunks: int) -> None:
        """Counts what a connection took."""
        self._seconds += seconds
        self._chunks += chunks
        if not self._is_scheduled and (self._seconds >= _LITTLE or self._chunks >= _FEW):
            self._schedule()

    @property
    def is_over(self) -> bool:
        """Whether all that this iteration has to give is taken."""
        return self._seconds >= MOST_SECONDS or self._chunks >= MOST_CHUNKS

    def wait(self, begin: Callable[[], None]) -> None:
        """Calls `begin` in a later iteration, in its turn."""
        self._waiting.append(begin)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._call_soon(self._begin)

    def _begin(self) -> None:
        """Begins an iteration: those that wait come first, but for who begins to wait meanwhile."""
        self._is_scheduled = False
        self.number += 1
        self._seconds, self._chunks = 0.0, 0
        if self._waiting:
            self._schedule()
        begun = self.clock()
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
            self._seconds = self.clock() - begun  # all of it: a turn counts its own work alone
            if self.is_over:
                break
