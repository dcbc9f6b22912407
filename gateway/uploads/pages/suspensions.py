"""Suspends accounts whose documents were killed for their time: none of theirs are counted for a while. Pure.

Each such document in a row makes the suspension longer; one that is counted in time ends it and resets the count.
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
        """Notes a killed document. Keeps at most MAX accounts, and drops those whose last one was longest ago."""
        count = self._until.pop(account, (0, 0.0))[0] + 1
        self._until[account] = count, now + count * self._each
        if len(self._until) > MAX:
            self._until.popitem(last=False)

    def end(self, account: str) -> None:
        """Notes a document that was counted in time."""
        self._until.pop(account, None)

    def holds(self, account: str, now: float) -> bool:
        """Whether an account is suspended now."""
        return now < self._until.get(account, (0, 0.0))[1]
