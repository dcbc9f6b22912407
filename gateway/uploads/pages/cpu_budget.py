"""What the documents of each account have cost of the processor, within a minute or so. Pure.

Each account may have so many seconds of a minute; what it has used is forgiven at that rate.
"""

from collections import OrderedDict
from typing import Final

_MINUTE: Final = 60.0
MAX: Final = 10_000


class CpuBudgets:
    """The accounts of late. `budget` is in seconds of the processor a minute; times are in seconds of any clock."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def add(self, account: str, seconds: float, now: float) -> None:
        """Notes what a document has cost. Of very many accounts those that paid longest ago are forgotten."""
        self._used[account] = self.of(account, now) + seconds, now
        self._used.move_to_end(account)
        if len(self._used) > MAX:
            self._used.popitem(last=False)

    def of(self, account: str, now: float) -> float:
        """Seconds that are not forgiven yet."""
        used, at = self._used.get(account, (0.0, now))
        return max(0.0, used - (now - at) * self._budget / _MINUTE)

    def wait(self, account: str, now: float) -> float:
        """Seconds until an account may have something counted again; 0.0 when it may now."""
        over = self.of(account, now) - self._budget
        return max(0.0, over * _MINUTE / self._budget)
