"""Which of many that wait is next, without a look at each of them whenever a place is free. Pure.

All are sorted now and then. In between only the first of these is looked at, and each that has changed since: where
few wait, that is all of them. What changes by time alone (a cost that is forgotten, in steps of seconds) is
seen at the next sorting.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count
from math import isqrt
from typing import Any, Final, Generic, NamedTuple, TypeVar

LEAST: Final = 16
Waiting = TypeVar("Waiting", bound=Hashable)


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


class LineOrder(Generic[Waiting]):
    """The order of all that wait; of such that stand alike the one is first that is behind for longest.

    `standing` says how one that waits stands now; None: it has nothing that may be next.
    """

    def __init__(self, standing: Callable[[Waiting], LineStanding | None]) -> None:
        self._standing = standing
        self._places: dict[Waiting, int] = {}  # of all that wait
        self._count = count()
        self._sorted: tuple[deque[Waiting], deque[Waiting]] = deque(), deque()  # what is not dear, and what is
        self._changed: set[Waiting] = set()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, one: object) -> bool:
        return one in self._places

    def put_last(self, one: Waiting) -> None:
        """One is behind all others that stand alike: it is new, or was served."""
        self._places[one] = next(self._count)
        self._changed.add(one)

    def note(self, one: Waiting) -> None:
        """One that waits stands otherwise: another of its documents is the first, or its owner has fewer places."""
        self._changed.add(one)

    def drop(self, one: Waiting) -> None:
        """One waits no more."""
        del self._places[one]
        self._changed.discard(one)

    def first(self, *, may_be_dear: bool) -> LineStanding | None:
        """The next one, if there is any; one that is dear only if that may be."""
        if len(self._changed) > max(LEAST, isqrt(3 * len(self._places))):
            self._sort()
        looked_at = self._standings((*self._heads(), *self._changed))
        able = (found for found in looked_at if may_be_dear or not found.standing.is_dear)
        first = min(able, key=_order, default=None)
        return None if first is None else first.standing

    def _heads(self) -> Iterator[Waiting]:
        """The first of what was sorted, without those that wait no more or have changed since."""
        for those in self._sorted:
            while those and (those[0] in self._changed or those[0] not in self._places):
                those.popleft()
            if those:
                yield those[0]

    def _sort(self) -> None:
        found = sorted(self._standings(self._places), key=_order)
        self._changed.clear()
        self._sorted = (
            deque(one.waiting for one in found if not one.standing.is_dear),
            deque(one.waiting for one in found if one.standing.is_dear),
        )

    def _standings(self, those: Iterable[Waiting]) -> "Iterator[_Placed[Waiting]]":
        for one in those:
            if (standing := self._standing(one)) is not None:
                yield _Placed(standing, self._places[one], one)


class _Placed(NamedTuple, Generic[Waiting]):
    standing: LineStanding
    place: int
    waiting: Waiting


def _order(one: _Placed[Any]) -> tuple[tuple[int, int, int], int, int]:
    return one.standing.rank, one.standing.at_work, one.place
