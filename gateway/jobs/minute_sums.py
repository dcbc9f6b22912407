"""What happens again and again at upstreams, for the log: the first at once, then one sum a minute. Pure."""

from collections import Counter
from typing import Final, NamedTuple

_EVERY: Final = 60.0  # seconds


class MinuteSum(NamedTuple):
    """How often it happened at an upstream since it was told last, and the status of the last time."""

    upstream: str
    number: int
    status: int


class MinuteSums:
    """Sums by upstream; times are in seconds of any clock."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._statuses: dict[str, int] = {}
        self._told_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<MinuteSums upstreams={len(self._counts)}>"

    def add(self, upstream: str, status: int = 0) -> None:
        """Counts one."""
        self._counts[upstream] += 1
        self._statuses[upstream] = status

    def due(self, now: float) -> list[MinuteSum]:
        """Takes out the sums of upstreams of which none was taken out for a minute."""
        self._told_at = {name: at for name, at in self._told_at.items() if now - at < _EVERY}
        due = [name for name in self._counts if name not in self._told_at]
        self._told_at.update(dict.fromkeys(due, now))
        return [MinuteSum(name, self._counts.pop(name), self._statuses.pop(name)) for name in due]
