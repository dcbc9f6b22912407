"""Owners of whom a look-up took long of late. Pure.

Sixteen names that no server answers hold all threads for as long as the system waits, half a minute. So what such
owners may have together is less than all: those whose names are found in milliseconds find a thread.
"""

from typing import Final

LONG: Final = 1.0  # seconds
REMEMBERED: Final = 600.0  # seconds
MAX: Final = 10_000


class SlowOwners:
    """At most MAX of them, the latest. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, owner: str, seconds: float, now: float) -> None:
        """A look-up of this owner has taken so long, or does so still."""
        if seconds < LONG:
            return
        self._until.pop(owner, None)
        self._until[owner] = now + REMEMBERED
        if len(self._until) > MAX:
            del self._until[next(iter(self._until))]

    def holds(self, owner: str, now: float) -> bool:
        """Whether one took long of late."""
        return now < self._until.get(owner, 0.0)
