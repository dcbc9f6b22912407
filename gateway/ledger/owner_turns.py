"""A fair queue for few slots: owners in turn, none with more than its share. Pure.

An owner with many requests delays only itself. However long the queues of the others are, an owner's first
request waits only for one of each owner ahead of it in the round.
"""

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class OwnerTurns(Generic[T]):
    """Queues by owner, each in its own order. `share` is how many of one owner may run at once."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._count = 0

    def __repr__(self) -> str:
        return f"<OwnerTurns waiting={self._count} owners_running={len(self._running)}>"

    def __len__(self) -> int:
        return self._count

    def put(self, owner: str, wait: T) -> None:
        """Queues one."""
        self._waiting.setdefault(owner, deque()).append(wait)
        self._count += 1

    def take(self) -> tuple[str, T] | None:
        """Takes the next one, which runs from now on; None if none that waits may run."""
        owner = next((name for name in self._waiting if self._running[name] < self._share), None)
        if owner is None:
            return None
        queue = self._waiting[owner]
        wait = queue.popleft()
        self._count -= 1
        self._waiting.move_to_end(owner)
        if not queue:
            del self._waiting[owner]
        self._running[owner] += 1
        return owner, wait

    def finish(self, owner: str) -> None:
        """Called when one of an owner's has ended."""
        self._running[owner] -= 1
        if self._running[owner] <= 0:
            del self._running[owner]
