"""Assigns a few slots to many accounts: fairly between accounts, with no slot idle while any account waits.

A free slot is given at once, so a single account may use all of them. If several wait, the next slot goes to the
account with the least recent cost, then to the one with the fewest slots, then to the one served longest ago. Within
an account the order is first come, first served.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

_ALIKE: Final = 0.25  # seconds: costs are rounded down to multiples of this, so that similar ones are equal


class FairQueue:
    """The slots, for the accounts of one event loop."""

    def __init__(self, slots: int, cost: Callable[[str], float] = lambda _: 0.0) -> None:
        """Takes the number of slots, and a function for an account's recent cost in seconds."""
        self._cost = cost
        self._free = slots
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, account: str) -> None:
        """Waits for a slot, which the caller must give back. A cancelled wait leaves no slot taken."""
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
        """Frees the slot of one turn."""
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
