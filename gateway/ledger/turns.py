"""A fair queue for few slots: accounts in turn, none with more than its share. Pure.

An account with many requests delays only itself. However long the queues of the others are, an account's first
request waits only for one from each account ahead of it in the round.
"""

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class AccountTurns(Generic[T]):
    """Queues by account, each in its own order. `share` is how many of one account may run at once."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._count = 0

    def __repr__(self) -> str:
        return f"<AccountTurns waiting={self._count} accounts_running={len(self._running)}>"

    def __len__(self) -> int:
        return self._count

    def put(self, account: str, wait: T) -> None:
        """Queues one."""
        self._waiting.setdefault(account, deque()).append(wait)
        self._count += 1

    def take(self) -> tuple[str, T] | None:
        """Takes the next one, which runs from now on; None if none that waits may run."""
        account = next((name for name in self._waiting if self._running[name] < self._share), None)
        if account is None:
            return None
        queue = self._waiting[account]
        wait = queue.popleft()
        self._count -= 1
        self._waiting.move_to_end(account)
        if not queue:
            del self._waiting[account]
        self._running[account] += 1
        return account, wait

    def finish(self, account: str) -> None:
        """Called when one of an account has ended."""
        self._running[account] -= 1
        if self._running[account] <= 0:
            del self._running[account]
