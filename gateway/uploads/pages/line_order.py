"""Which of many that wait is next, without a look at each of them whenever a place is free. Pure.

All are sorted now and then. In between only the first of these is looked at, and each line that has changed since:
where few wait, that is all of them. What changes by time alone (a cost that is forgotten, in steps of seconds) is
seen at the next sorting.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from math import isqrt
from typing import Final, NamedTuple

LEAST: Final = 16


class QueueLine(NamedTuple):
    """An account that waits, and its owner."""

    owner: str
    account: str


class LineStanding(NamedTuple):
    """How a line stands: the lowest `rank` is next, then the lowest `at_work`."""

    rank: tuple[int, int, int]
    at_work: int
    line: QueueLine
    is_dear: bool


class LineOrder:
    """The order of the lines that wait; of such that stand alike the one is first that is behind for longest.

    `standing` says how one that waits stands now.
    """

    def __init__(self, standing: Callable[[QueueLine], LineStanding]) -> None:
        self._standing = standing
        self._places: dict[QueueLine, int] = {}  # of all that wait
        self._count = count()
        self._sorted: tuple[deque[QueueLine], deque[QueueLine]] = deque(), deque()  # what is not dear, and what is
        self._changed: set[QueueLine] = set()

    def __len__(self) -> int:
        return len(self._places)

    def put_last(self, line: QueueLine) -> None:
        """A line is behind all others that stand alike: it is new, or its owner was served."""
        self._places[line] = next(self._count)
        self._changed.add(line)

    def note(self, line: QueueLine) -> None:
        """One that waits stands otherwise: another of its documents is the first, or its owner has fewer places."""
        self._changed.add(line)

    def drop(self, line: QueueLine) -> None:
        """A line waits no more."""
        del self._places[line]
        self._changed.discard(line)

    def first(self, *, may_be_dear: bool) -> LineStanding | None:
        """The next line, if there is one; one that is dear only if that may be."""
        if len(self._changed) > max(LEAST, isqrt(3 * len(self._places))):
            self._sort()
        looked_at = map(self._standing, (*self._heads(), *self._changed))
        may_have_one = (found for found in looked_at if may_be_dear or not found.is_dear)
        return min(may_have_one, key=self._key, default=None)

    def _heads(self) -> Iterator[QueueLine]:
        """The first of what was sorted, without those that wait no more or have changed since."""
        for lines in self._sorted:
            while lines and (lines[0] in self._changed or lines[0] not in self._places):
                lines.popleft()
            if lines:
                yield lines[0]

    def _sort(self) -> None:
        found = sorted(map(self._standing, self._places), key=self._key)
        self._changed.clear()
        self._sorted = (
            deque(one.line for one in found if not one.is_dear),
            deque(one.line for one in found if one.is_dear),
        )

    def _key(self, one: LineStanding) -> tuple[tuple[int, int, int], int, int]:
        return one.rank, one.at_work, self._places[one.line]
