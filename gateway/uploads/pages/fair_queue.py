"""Assigns a few slots to many accounts, fairly between accounts.

A free slot is given at once, so a single account may use all of them. If several wait, the next slot goes to the
account with the least recent cost, then to the one with the fewest slots, then to the one served longest ago. Within
an account the order is first come, first served.

Turns that are probably dear have all slots but one, of two and more: nobody takes a slot back before its turn has
ended, and with all of them dear, whoever came next would wait for seconds.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

_ALIKE: Final = 0.25  # seconds: costs are rounded down to multiples of this, so that similar ones are equal


class _Turn(NamedTuple):
    given: "asyncio.Future[bool]"  # whether it is a dear one
    size: int


class FairQueue:
    """The slots, for the accounts of one event loop."""

    def __init__(
        self,
        slots: int,
        cost: Callable[[str], float] = lambda _: 0.0,
        is_dear: Callable[[str, int], bool] = lambda *_: False,
    ) -> None:
        """Takes the number of slots, and what an account has cost of late, in seconds.

        `is_dear` tells whether an account's turn for a document of so many bytes is probably a dear one.
        """
        self._cost = cost
        self._is_dear = is_dear
        self._free = slots
        self._left_to_dear = max(1, slots - 1)
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Turn]] = OrderedDict()

    async def take(self, account: str, size: int = 0) -> bool:
        """Waits for a slot, which the caller must give back; returns whether it is one for what is dear.

        A cancelled wait leaves no slot taken.
        """
        turn = _Turn(asyncio.get_running_loop().create_future(), size)
        self._waiting.setdefault(account, deque()).append(turn)
        self._hand_out()
        try:
            return await turn.given
        except BaseException:
            if turn.given.done() and not turn.given.cancelled():
                self.give_back(account, is_dear=turn.given.result())
            else:
                self._forget(account, turn)
            raise

    def give_back(self, account: str, *, is_dear: bool = False) -> None:
        """Frees the slot of one turn."""
        self._at_work[account] -= 1
        if not self._at_work[account]:
            del self._at_work[account]
        self._left_to_dear += is_dear
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (account := self._next()) is not None:
            turn = self._waiting[account][0]
            is_dear = self._is_dear(account, turn.size)
            self._forget(account, turn)
            if account in self._waiting:
                self._waiting.move_to_end(account)
            if not turn.given.done():
                self._free -= 1
                self._left_to_dear -= is_dear
                self._at_work[account] += 1
                turn.given.set_result(is_dear)

    def _next(self) -> str | None:
        may_have_one = (
            account
            for account, turns in self._waiting.items()
            if self._left_to_dear or not self._is_dear(account, turns[0].size)
        )
        return min(may_have_one, key=self._rank, default=None)

    def _rank(self, account: str) -> tuple[int, int]:
        return int(self._cost(account) / _ALIKE), self._at_work[account]

    def _forget(self, account: str, turn: _Turn) -> None:
        queue = self._waiting.get(account, ())
        if turn in queue:
            self._waiting[account].remove(turn)
            if not self._waiting[account]:
                del self._waiting[account]
