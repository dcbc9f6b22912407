"""Whose turn it is, where a few places serve many accounts: fair between accounts, and idle for nobody.

A place that is free is never kept from whoever waits, so one account alone may have all. When several wait, the next
place goes to the account that has cost the least of late, then to the one that has the fewest, and among those to the
one that was served longest ago. Within an account the first to come is the first to be served.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

_ALIKE: Final = 0.25  # seconds: accounts whose costs differ by less are alike


class FairQueue:
    """The places, for the accounts of one loop."""

    def __init__(self, places: int, cost: Callable[[str], float] = lambda _: 0.0) -> None:
        """Takes how many may be at work at once, and what an account has cost of late, in seconds."""
        self._cost = cost
        self._free = places
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, account: str) -> None:
        """Waits for a place; whoever has got one gives it back. A wait that is broken off leaves none taken."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back(account)
            else:
                self._forget(account, turn)
            raise

    def give_back(self, account: str) -> None:
        """Ends a turn."""
        self._at_work[account] -= 1
        if not self._at_work[account]:
            del self._at_work[account]
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            account = min(self._waiting, key=self._rank)
            turn = self._waiting[account][0]
            self._forget(account, turn)
            if account in self._waiting:
                self._waiting.move_to_end(account)
            if not turn.done():
                self._free -= 1
                self._at_work[account] += 1
                turn.set_result(None)

    def _rank(self, account: str) -> tuple[int, int]:
        return int(self._cost(account) / _ALIKE), self._at_work[account]

    def _forget(self, account: str, turn: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(account, ())
        if turn in queue:
            self._waiting[account].remove(turn)
            if not self._waiting[account]:
                del self._waiting[account]
