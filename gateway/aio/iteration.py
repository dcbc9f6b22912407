"""How much of one iteration of the event loop all connections may take: turns bound each alone (turn.py).

A connection whose turn is over waits here. Each iteration serves as many of those that wait as its time allows, the
others in later ones: sixty clients that flood hold the loop no longer than two do. Who waits is served

- the small ones first (a poll, a handshake), and of the others at least one in each iteration;
- of each kind the peers in turn, so that nobody has more of it by more connections;
- of one peer the connections in the order in which they came.

As long as an iteration is not full, who needs little is not asked to wait at all: see SMALL in turn.py.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Final

MAX_SECONDS: Final = 0.004
MAX_CHUNKS: Final = 3072  # as in turn.py
_FULL: Final = 2
"""With so many times that, what comes waits, however little it needs."""

_LITTLE: Final = MAX_SECONDS / 4  # to be called in each iteration would cost each a poll of the kernel
_FEW: Final = MAX_CHUNKS // 4
Begin = Callable[[], None]


class Queue:
    """Those who wait: the peers in turn, and of each the calls in their order."""

    __slots__ = ("_count", "_peers")

    def __init__(self) -> None:
        self._peers: OrderedDict[Hashable, deque[Begin]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, peer: Hashable, begin: Begin) -> None:
        """Puts a call behind those of the same peer."""
        self._peers.setdefault(peer, deque()).append(begin)
        self._count += 1

    def take(self) -> Begin:
        """Takes the first of the peer whose turn it is; the next one's is the next. There is one."""
        peer, calls = self._peers.popitem(last=False)
        self._count -= 1
        begin = calls.popleft()
        if calls:
            self._peers[peer] = calls
        return begin


class Iteration:
    """Of one loop. `clock` is one in seconds that goes on within an iteration, `call_soon` is the loop's own.

    `number` changes with each iteration, but while so little happens that nobody needs to count.
    """

    __slots__ = ("_call_soon", "_chunks", "_is_scheduled", "_large", "_seconds", "_small", "clock", "number")

    def __init__(self, clock: Callable[[], float], call_soon: Callable[[Begin], Any]) -> None:
        self.clock = clock
        self.number = 0
        self._call_soon = call_soon
        self._seconds = 0.0
        self._chunks = 0
        self._small, self._large = Queue(), Queue()
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
        return self._seconds >= MAX_SECONDS or self._chunks >= MAX_CHUNKS

    @property
    def is_full(self) -> bool:
        """Whether so much more is taken that nobody may take any."""
        return self._seconds >= _FULL * MAX_SECONDS or self._chunks >= _FULL * MAX_CHUNKS

    def wait(self, begin: Begin, of: Hashable = None, *, is_small: bool = False) -> None:
        """Calls `begin` in a later iteration, in the turn of the peer that it is of."""
        (self._small if is_small else self._large).put(of, begin)
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
        small, large = len(self._small), len(self._large)
        if small or large:
            self._schedule()
            begun = self.clock()
            self._serve(self._small, small, begun)
            self._serve(self._large, large, begun)

    def _serve(self, waiting: Queue, count: int, begun: float) -> None:
        """Serves the first of them in any case, and others while there is time."""
        for number in range(count):
            if number and self.is_over:
                break
            waiting.take()()
            self._seconds = self.clock() - begun  # all of it: a turn counts its own work alone
