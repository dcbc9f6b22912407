"""Assigns a few slots to many owners, fairly between owners, and to the accounts of each one in turn.

A free slot is given at once, so a single owner may use all of them. If several wait, the next slot goes to the
owner whose next document has the lowest rank (least recent cost first: count_history.py), then to the one
with the fewest slots, then to the one served longest ago. Of an owner's accounts it is likewise the one served
longest ago: with many of them an owner has no more turns, and none of them keeps out another. Within an account the
order is first come, first served. Thousands of owners or accounts may wait: owner_order.py finds the next one.

Turns that are probably dear have all slots but one, of two and more: nobody takes a slot back before its turn has
ended, and with all of them dear, whoever came next would wait for seconds. So who has a lower rank than all others,
and is not dear, waits for one turn at the most.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable

from gateway.uploads.pages.count_history import Outlook
from gateway.uploads.pages.line_order import LineStanding, QueueLine
from gateway.uploads.pages.owner_order import OwnerOrder

_Turn = asyncio.Future[bool]  # its result: whether it is a dear one
_Turns = OrderedDict[_Turn, int]  # the sizes of their documents


class FairQueue:
    """The slots, for the owners of one event loop."""

    def __init__(self, slots: int, outlook: Callable[[str, int], Outlook] = lambda *_: Outlook()) -> None:
        """Takes the number of slots, and what is to be expected of an owner's document of so many bytes."""
        self._outlook = outlook
        self._free = slots
        self._left_to_dear = max(1, slots - 1)
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[str, _Turns]] = OrderedDict()  # by owner, of each by account
        self._order = OwnerOrder(self._standing)

    async def take(self, owner: str, size: int = 0, account: str = "") -> bool:
        """Waits for a slot, which the caller must give back; returns whether it is one for what is dear.

        A cancelled wait leaves no slot taken.
        """
        turn: _Turn = asyncio.get_running_loop().create_future()
        line = QueueLine(owner, account)
        turns = self._waiting.setdefault(owner, OrderedDict()).setdefault(account, OrderedDict())
        turns[turn] = size
        if len(turns) == 1:
            self._order.add(line)
        if len(turns) == 1 and self._free:
            # Who waits for a free slot may have none: all others were looked at when the last one was given back.
            self._hand_out(line)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back(owner, is_dear=turn.result())
            else:
                self._forget(line, turn)
                # What is free may have been denied to this one alone, as dear, and not to the next of its account.
                self._hand_out(line)
            raise

    def give_back(self, owner: str, *, is_dear: bool = False) -> None:
        """Frees the slot of one turn."""
        self._at_work[owner] -= 1
        if not self._at_work[owner]:
            del self._at_work[owner]
        self._left_to_dear += is_dear
        self._free += 1
        self._order.note_owner(owner)
        self._hand_out()

    def _hand_out(self, only: QueueLine | None = None) -> None:
        """Gives what is free to the first turns of all accounts, or of only one."""
        while self._free and (chosen := self._next(only)) is not None:
            owner, account = chosen.line
            turn = next(iter(self._waiting[owner][account]))
            self._waiting[owner].move_to_end(account)
            self._waiting.move_to_end(owner)
            self._forget(chosen.line, turn)
            if not turn.done():
                self._free -= 1
                self._left_to_dear -= chosen.is_dear
                self._at_work[owner] += 1
                turn.set_result(chosen.is_dear)
            self._order.note_served(chosen.line)

    def _next(self, only: QueueLine | None) -> LineStanding | None:
        may_be_dear = self._left_to_dear > 0
        if only is None:
            return self._order.first(may_be_dear=may_be_dear)
        found = None if self._turns_of(only) is None else self._standing(only)  # it may have been given its only one
        return found if found is not None and (may_be_dear or not found.is_dear) else None

    def _standing(self, line: QueueLine) -> LineStanding:
        is_dear, rank = self._outlook(line.owner, next(iter(self._waiting[line.owner][line.account].values())))
        return LineStanding(rank, self._at_work[line.owner], line, is_dear)

    def _turns_of(self, line: QueueLine) -> _Turns | None:
        accounts = self._waiting.get(line.owner)
        return None if accounts is None else accounts.get(line.account)

    def _forget(self, line: QueueLine, turn: _Turn) -> None:
        turns = self._turns_of(line)
        if turns is None or turns.pop(turn, None) is None:
            return
        if turns:
            self._order.note(line)
            return
        self._order.drop(line)
        del self._waiting[line.owner][line.account]
        if not self._waiting[line.owner]:
            del self._waiting[line.owner]
