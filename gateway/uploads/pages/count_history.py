"""What counting each owner's documents has cost, and so what is to be expected of its next one. Pure.

In all: the cost is forgotten by one CPU second a minute, much more slowly than a budget (cpu_budget.py): where many
owners wait, a cost that is forgotten before an owner's next turn ranks it beside those that cost nothing.

At worst: the longest document of an owner counts for ten minutes, however many short ones come after it; beyond
DEAR the owner is dear. What others than long ones show is true up to LARGE, or twice their size: a larger document
may take long, as may the first one of an owner.
"""

import math
from collections import OrderedDict
from typing import Final, NamedTuple

_FORGOTTEN: Final = 1 / 60  # CPU seconds a second
_REMEMBERED: Final = 600.0  # seconds
_ALIKE: Final = 0.25  # seconds: costs are rounded down to multiples of this, so that similar ones are equal
_SHORT: Final = 0.05  # seconds: likewise, for one document
DEAR: Final = 0.2
"""CPU seconds. A usual document takes a few milliseconds; to end its worker costs fifty more."""

LARGE: Final = 1_048_576
"""Bytes."""

MAX: Final = 10_000


class Outlook(NamedTuple):
    """What is to be expected of a document: whether it may be dear, and its rank; the lowest comes first."""

    is_dear: bool = False
    rank: tuple[int, int, int] = (0, 0, 0)


class _Past(NamedTuple):
    cost: float = 0.0
    at: float = 0.0
    worst: float = 0.0
    worst_at: float = -math.inf
    shown: int = 0  # bytes of the largest document that was not dear

    def cost_left(self, now: float) -> float:
        return max(0.0, self.cost - (now - self.at) * _FORGOTTEN)

    def worst_left(self, now: float) -> float:
        return self.worst if now - self.worst_at < _REMEMBERED else 0.0


_NOTHING: Final = _Past()


class CountHistory:
    """The recent owners. Costs are in CPU seconds, times in seconds of any clock, sizes in bytes."""

    def __init__(self) -> None:
        self._past: OrderedDict[str, _Past] = OrderedDict()

    def __len__(self) -> int:
        return len(self._past)

    def add(self, owner: str, seconds: float, now: float, size: int = 0) -> None:
        """Adds a document's cost; `size` is 0 if it was not counted, which shows nothing of others.

        Keeps at most MAX owners, and drops those charged longest ago.
        """
        past = self._past.pop(owner, _NOTHING)
        worst, worst_at = (past.worst, past.worst_at) if seconds < past.worst_left(now) else (seconds, now)
        shown = 0 if seconds > DEAR else max(past.shown, size)
        self._past[owner] = _Past(past.cost_left(now) + seconds, now, worst, worst_at, shown)
        if len(self._past) > MAX:
            self._past.popitem(last=False)

    def outlook(self, owner: str, size: int, now: float) -> Outlook:
        """What is to be expected of an owner's document of so many bytes.

        The rank is by the cost in all; among alike ones the document that probably takes less comes first, among
        those the smaller one.
        """
        past = self._past.get(owner, _NOTHING)
        longest = past.worst_left(now)
        is_known = past.shown > 0 and size <= max(LARGE, 2 * past.shown)
        expected = longest if is_known else max(longest, _SHORT)
        rank = int(past.cost_left(now) / _ALIKE), int(expected / _SHORT), size // LARGE
        return Outlook(longest > DEAR or (size > LARGE and not is_known), rank)
