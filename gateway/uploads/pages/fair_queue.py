"""Assigns a few slots to many accounts, fairly between accounts.

A free slot is given at once, so a single account may use all of them. If several wait, the next slot goes to the
account whose next document has the lowest rank (least recent cost first: count_history.py), then to the one
with the fewest slots, then to the one served longest ago. Within an account the order is first come, first served.

Turns that are probably dear have all slots but one, of two and more: nobody takes a slot back before its turn has
ended, and with all of them dear, whoever came next would wait for seconds. So who has a lower rank than all others,
and is not dear, waits for one turn at the most.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from gateway.uploads.pages.count_history import Outlook

_Turn = asyncio.Future[bool]  # its result: whether it is a dear one


class _Next(NamedTuple):
    rank: tuple[int, int, int]
    at_work: int
    account: str
    is_dear: bool


class FairQueue:
    """The slots, for the accounts of one event loop."""

    def __init__(self, slots: int, outlook: Callable[[str, int], Outlook] = lambda *_: Outlook()) -> None:
        """Takes the number of slots, and what is to be expected of an account's document of so many bytes."""
        self._outlook = outlook
        self._free = slots
        self._left_to_dear = max(1, slots - 1)
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[_Turn, int]] = OrderedDict()  # the sizes of their documents

    async def take(self, account: str, size: int = 0) -> bool:
        """Waits for a slot, which the caller must give back; returns whether it is one for what is dear.

        A cancelled wait leaves no slot taken.
        """
        turn: _Turn = asyncio.get_running_loop().create_future()
        is_first = account not in self._waiting
        self._waiting.setdefault(account, OrderedDict())[turn] = size
        if is_first and self._free:
            # Who waits for a free slot may have none: all others were looked at when the last one was given back.
            self._hand_out((account,))
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back(account, is_dear=turn.result())
            else:
                self._forget(account, turn)
                # What is free may have been denied to this one alone, as dear, and not to the next of its account.
                self._hand_out((account,))
            raise

    def give_back(self, account: str, *, is_dear: bool = False) -> None:
        """Frees the slot of one turn."""
        self._at_work[account] -= 1
        if not self._at_work[account]:
            del self._at_work[account]
        self._left_to_dear += is_dear
        self._free += 1
        self._hand_out(self._waiting)

    def _hand_out(self, accounts: Collection[str]) -> None:
        """Gives what is free to the first turns of these accounts."""
        while self._free and (chosen := self._next(accounts)) is not None:
            account, is_dear = chosen.account, chosen.is_dear
            turn = next(iter(self._waiting[account]))
            self._forget(account, turn)
            if account in self._waiting:
                self._waiting.move_to_end(account)
            if not turn.done():
                self._free -= 1
                self._left_to_dear -= is_dear
                self._at_work[account] += 1
                turn.set_result(is_dear)

    def _next(self, accounts: Collection[str]) -> _Next | None:
        may_have_one = (turn for turn in self._first_turns(accounts) if self._left_to_dear or not turn.is_dear)
        return min(may_have_one, key=lambda turn: (turn.rank, turn.at_work), default=None)

    def _first_turns(self, accounts: Collection[str]) -> Iterator[_Next]:
        for account in accounts:
            if (turns := self._waiting.get(account)) is None:  # it has just been given its only one
                continue
            is_dear, rank = self._outlook(account, next(iter(turns.values())))
            yield _Next(rank, self._at_work[account], account, is_dear)

    def _forget(self, account: str, turn: _Turn) -> None:
        turns = self._waiting.get(account)
        if turns is not None and turns.pop(turn, None) is not None and not turns:
            del self._waiting[account]
