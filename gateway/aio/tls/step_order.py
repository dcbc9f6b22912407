"""Whose step of a handshake comes next, of those that may be long: pure.

OpenSSL decodes the keys of a peer's certificates as it reads them, before anybody is trusted: 12 KB of keys with
curves of their own take it ten seconds and more, and no thread can be stopped. An attacker who knows that must not
keep others out. The rules:

- One step of a source at a time, or as many as there may be at once; its others wait for the end of one.
- Sources have a standing. PROVED: lately showed a certificate that is trusted. QUICK: lately completed a handshake
  without one. NEW: all others. OWES: a step of it took more than LONG, for a hundred times as long as it took. A
  debt counts before all else.
- Of those that wait PROVED come first, and those that owe last. QUICK and NEW take turns: anybody is QUICK for one
  handshake, so it must not come before those that never came. Within one standing each source has its turn.
- Threads have lanes: each takes sources of one standing or better. So strangers never have all of them, nor do
  those that owe: a first-time client finds one. QUICK has a lane beside NEW, whose threads may all be taken.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar

LONG: Final = 0.1
"""Seconds of a processor: a chain of RSA-4096 certificates takes a few milliseconds."""

DEBT: Final = 100
LATELY: Final = 3600.0
MOST_REMEMBERED: Final = 4096
"""Sources of each standing. Of those that wait there are no more than connections."""

T = TypeVar("T")


class Standing(IntEnum):
    """See above; who may use more lanes first."""

    PROVED = 0
    QUICK = 1
    NEW = 2
    OWES = 3


class ThreadLane(NamedTuple):
    """So many threads, for sources of this standing or a better one."""

    threads: int
    worst: Standing


LANES: Final = (
    ThreadLane(2, Standing.PROVED),
    ThreadLane(1, Standing.QUICK),
    ThreadLane(12, Standing.NEW),
    ThreadLane(4, Standing.OWES),
)

LANES_OF_ONE: Final = (ThreadLane(4, Standing.PROVED), ThreadLane(4, Standing.OWES))
"""For threads that serve one source alone, which the operator named."""


class Begun(NamedTuple, Generic[T]):
    """A step that has a thread, of that lane."""

    source: Hashable
    step: T
    lane: int


class _Lately:
    """Sources, each until some time. Of too many, the one that was noted first is forgotten."""

    def __init__(self) -> None:
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def note(self, source: Hashable, until: float) -> None:
        self._until[source] = max(until, self._until.pop(source, 0.0))
        if len(self._until) > MOST_REMEMBERED:
            self._until.popitem(last=False)

    def holds(self, source: Hashable, now: float) -> bool:
        return now < self._until.get(source, 0.0)


class StepOrder(Generic[T]):
    """Those that wait and those that have a thread. `lanes` begin with the one that takes the fewest.

    `at_once`: steps of one source.
    """

    def __init__(self, lanes: tuple[ThreadLane, ...], clock: Callable[[], float], at_once: int = 1) -> None:
        self._at_once = at_once
        self._lanes = lanes
        self._clock = clock
        self._turns = Standing.QUICK, Standing.NEW  # which of them comes next
        self._free = [lane.threads for lane in lanes]
        self._waiting: dict[Hashable, dict[T, None]] = {}
        self._lines: tuple[OrderedDict[Hashable, None], ...] = tuple(OrderedDict() for _ in Standing)
        self._running: Counter[Hashable] = Counter()
        self._proved, self._quick, self._owing = _Lately(), _Lately(), _Lately()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, source: Hashable, step: T) -> None:
        """Lets a step wait."""
        steps = self._waiting.setdefault(source, {})
        steps[step] = None
        if len(steps) == 1:
            self._line_up(source)

    def drop(self, source: Hashable, step: T) -> bool:
        """Lets a step wait no longer; whether it still did."""
        steps = self._waiting.get(source, {})
        if step not in steps:
            return False
        del steps[step]
        if not steps:
            del self._waiting[source]
            for line in self._lines:
                line.pop(source, None)
        return True

    def take(self) -> Begun[T] | None:
        """The next step, if there is a thread for it."""
        for standing in (Standing.PROVED, *self._turns, Standing.OWES):
            lane = self._lane_for(standing) if self._lines[standing] else None
            if lane is not None:
                if standing is self._turns[0]:
                    self._turns = self._turns[1], self._turns[0]
                return self._begin(standing, lane)
        return None

    def end(self, begun: Begun[T], seconds: float, shown: Standing | None) -> None:
        """A step is over: it took so many seconds of a processor, and showed that standing of its source."""
        source, now = begun.source, self._clock()
        self._free[begun.lane] += 1
        self._running[source] -= 1
        if not self._running[source]:
            del self._running[source]
        if seconds > LONG:
            self._owing.note(source, now + DEBT * seconds)
        if shown is Standing.PROVED:
            self._proved.note(source, now + LATELY)
        elif shown is Standing.QUICK:
            self._quick.note(source, now + LATELY)
        self._line_up(source)

    def standing(self, source: Hashable) -> Standing:
        """What is known of it."""
        now = self._clock()
        if self._owing.holds(source, now):
            return Standing.OWES
        if self._proved.holds(source, now):
            return Standing.PROVED
        return Standing.QUICK if self._quick.holds(source, now) else Standing.NEW

    def _line_up(self, source: Hashable) -> None:
        """Lets it wait for its turn, if it has steps that may begin; one that waits already keeps its place."""
        if source not in self._waiting or self._running[source] >= self._at_once:
            return
        mine = self._lines[self.standing(source)]
        for line in self._lines:
            if line is not mine:
                line.pop(source, None)
        mine.setdefault(source)

    def _lane_for(self, standing: Standing) -> int | None:
        lanes = zip(self._lanes, self._free, strict=True)
        return next((place for place, (lane, free) in enumerate(lanes) if free and standing <= lane.worst), None)

    def _begin(self, standing: Standing, lane: int) -> Begun[T]:
        source, _ = self._lines[standing].popitem(last=False)
        steps = self._waiting[source]
        step = next(iter(steps))
        del steps[step]
        if not steps:
            del self._waiting[source]
        self._running[source] += 1
        self._free[lane] -= 1
        self._line_up(source)
        return Begun(source, step, lane)
