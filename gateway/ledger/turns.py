"""Who is next where many wait for few places: accounts in turn, none with more than its share. Pure.

One account that asks for much waits behind itself alone: whoever comes with little is next but for those that stand
in the round before him, however long their queues are.
"""

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class AccountTurns(Generic[T]):
    """Waits of accounts, each account's own in their order. `share` is how many of one may run at once."""

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
        """Lets one wait."""
        self._waiting.setdefault(account, deque()).append(wait)
        self._count += 1

    def take(self) -> tuple[str, T] | None:
        """The next one, which runs from now on; None when nobody waits that may run."""
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

    def done(self, account: str) -> None:
        """Notes that one of an account runs no more."""
        self._running[account] -= 1
        if self._running[account] <= 0:
            del self._running[account]
