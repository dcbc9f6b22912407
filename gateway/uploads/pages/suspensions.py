"""Which accounts have no documents counted for a while, because some were killed for time. Pure.

Each document in a row makes the while longer; one that is counted in time ends it, and the memory of those before.
"""

from collections import OrderedDict
from typing import Final

MAX: Final = 10_000


class Suspensions:
    """The accounts whose last document was killed. `each` and times are in seconds of any clock."""

    def __init__(self, each: float) -> None:
        self._each = each
        self._until: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, account: str, now: float) -> None:
        """Notes a document that was killed. Of very many accounts those are forgotten whose last was longest ago."""
        count = self._until.pop(account, (0, 0.0))[0] + 1
        self._until[account] = count, now + count * self._each
        if len(self._until) > MAX:
            self._until.popitem(last=False)

    def end(self, account: str) -> None:
        """Notes a document that was counted in time."""
        self._until.pop(account, None)

    def holds(self, account: str, now: float) -> bool:
        """Whether an account's documents are not to be counted now."""
        return now < self._until.get(account, (0, 0.0))[1]
