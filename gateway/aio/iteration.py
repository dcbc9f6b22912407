"""Limits how much of one event loop iteration all connections take together; turn.py limits each one alone.

A connection whose turn is over waits here. Each iteration serves as many waiting connections as its time allows, and
leaves the others to later ones: sixty flooding clients hold the loop no longer than two do. The order is

- small calls first (a poll, a handshake); of the others at least one in each iteration;
- within each kind, round robin by peer, so that more connections get a peer no larger share;
- within one peer, first come, first served.

While an iteration is not full, connections that need little do not wait at all: see SMALL in turn.py.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Final

MAX_SECONDS: Final = 0.004
MAX_CHUNKS: Final = 3072  # as in turn.py
_FULL: Final = 2
"""At so many times the limit, every connection waits, however little it needs."""

_LITTLE: Final = MAX_SECONDS / 4  # below this no call is scheduled: one in each iteration would cost a kernel poll
_FEW: Final = MAX_CHUNKS // 4
Begin = Callable[[], None]


class Queue:
    """The waiting calls: round robin by peer, in order within each peer."""

    __slots__ = ("_count", "_peers")

    def __init__(self) -> None:
        self._peers: OrderedDict[Hashable, deque[Begin]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, peer: Hashable, begin: Begin) -> None:
        """Appends a call to those of the same peer."""
        self._peers.setdefault(peer, deque()).append(begin)
        self._count += 1

    def take(self) -> Begin:
        """Takes the first call of the peer whose turn it is, and moves on to the next peer. Must not be empty."""
        peer, calls = self._peers.popitem(last=False)
        self._count -= 1
        begin = calls.popleft()
        if calls:
            self._peers[peer] = calls
        return begin


class Iteration:
    """The iterations of one loop. `clock` gives seconds and advances within an iteration; `call_soon` is the loop's.

    `number` changes with each iteration, except while so little happens that no counting is needed.
    """

    __slots__ = ("_call_soon", "_chunks", "_large", "_seconds", "_small", "clock", "is_scheduled", "number")

    def __init__(self, clock: Callable[[], float], call_soon: Callable[[Begin], Any]) -> None:
        self.clock = clock
        self.number = 0
        self._call_soon = call_soon
        self._seconds = 0.0
        self._chunks = 0
        self._small, self._large = Queue(), Queue()
        self.is_scheduled = False

    def add(self, seconds: float, chunks: int) -> None:
        """Counts what a connection used."""
        self._seconds += seconds
        self._chunks += chunks
        if not self.is_scheduled and (self._seconds >= _LITTLE or self._chunks >= _FEW):
            self._schedule()

    @property
    def is_over(self) -> bool:
        """Whether this iteration's budget is used up."""
        return self._seconds >= MAX_SECONDS or self._chunks >= MAX_CHUNKS

    @property
    def is_full(self) -> bool:
        """Whether so much more than the budget is used that every connection must wait."""
        return self._seconds >= _FULL * MAX_SECONDS or self._chunks >= _FULL * MAX_CHUNKS

    def call_in_turn(self, call: Begin, peer: Hashable = None, *, is_small: bool = False) -> None:
        """Calls this in a later iteration, in the turn of `peer`."""
        (self._small if is_small else self._large).put(peer, call)
        if not self.is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self.is_scheduled = True
        self._call_soon(self._begin)

    def _begin(self) -> None:
        """Begins an iteration: serves those that wait already, not those that begin to wait meanwhile."""
        self.is_scheduled = False
        self.number += 1
        self._seconds, self._chunks = 0.0, 0
        small, large = len(self._small), len(self._large)
        if small or large:
            self._schedule()
            begun = self.clock()
            self._serve(self._small, small, begun)
            self._serve(self._large, large, begun)

    def _serve(self, waiting: Queue, count: int, begun: float) -> None:
        """Serves the first call in any case, and others while there is time."""
        for number in range(count):
            if number and self.is_over:
                break
            waiting.take()()
            self._seconds = self.clock() - begun  # the whole time: a turn counts only its own work
