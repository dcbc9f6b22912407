"""CPU budgets: what each owner's documents have recently cost. Pure.

Each owner may use so many CPU seconds a minute; its use decays at that rate.
"""

from collections import OrderedDict
from typing import Final

_MINUTE: Final = 60.0
MAX: Final = 10_000


class CpuBudgets:
    """The recent owners. `budget` is in CPU seconds a minute; times are in seconds of any clock."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def add(self, owner: str, seconds: float, now: float) -> None:
        """Adds a document's cost. Keeps at most MAX owners, and drops those charged longest ago."""
        self._used[owner] = self.of(owner, now) + seconds, now
        self._used.move_to_end(owner)
        if len(self._used) > MAX:
            self._used.popitem(last=False)

    def of(self, owner: str, now: float) -> float:
        """The CPU seconds used and not yet decayed."""
        used, at = self._used.get(owner, (0.0, now))
        return max(0.0, used - (now - at) * self._budget / _MINUTE)

    def wait(self, owner: str, now: float) -> float:
        """Seconds until an owner may have documents counted again; 0.0 if it may now."""
        over = self.of(owner, now) - self._budget
        return max(0.0, over * _MINUTE / self._budget)
