"""Assigns a few slots to many owners, fairly between owners, and to the accounts of each one in turn.

A free slot is given at once, so a single owner may use all of them. If several wait, the next slot goes to the
owner whose next document has the lowest rank (least recent cost first: count_history.py), then to the one
with the fewest slots, then to the one served longest ago. Of an owner's accounts it is likewise the one served
longest ago: with many of them an owner has no more turns, and none of them keeps out another. Within an account the
order is first come, first served.

Turns that are probably dear have all slots but one, of two and more: nobody takes a slot back before its turn has
ended, and with all of them dear, whoever came next would wait for seconds. So who has a lower rank than all others,
and is not dear, waits for one turn at the most.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from gateway.uploads.pages.count_history import Outlook

_Turn = asyncio.Future[bool]  # its result: whether it is a dear one
_Turns = OrderedDict[_Turn, int]  # the sizes of their documents


class _Line(NamedTuple):
    owner: str
    account: str


class _Next(NamedTuple):
    rank: tuple[int, int, int]
    at_work: int
    line: _Line
    is_dear: bool


class FairQueue:
    """The slots, for the owners of one event loop."""

    def __init__(self, slots: int, outlook: Callable[[str, int], Outlook] = lambda *_: Outlook()) -> None:
        """Takes the number of slots, and what is to be expected of an owner's document of so many bytes."""
        self._outlook = outlook
        self._free = slots
        self._left_to_dear = max(1, slots - 1)
        self._at_work: Counter[str] = Counter()
        self._waiting: OrderedDict[str, OrderedDict[str, _Turns]] = OrderedDict()  # by owner, of each by account

    async def take(self, owner: str, size: int = 0, account: str = "") -> bool:
        """Waits for a slot, which the caller must give back; returns whether it is one for what is dear.

        A cancelled wait leaves no slot taken.
        """
        turn: _Turn = asyncio.get_running_loop().create_future()
        line = _Line(owner, account)
        turns = self._waiting.setdefault(owner, OrderedDict()).setdefault(account, OrderedDict())
        turns[turn] = size
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
        self._hand_out()

    def _hand_out(self, only: _Line | None = None) -> None:
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

    def _next(self, only: _Line | None) -> _Next | None:
        may_have_one = (turn for turn in self._first_turns(only) if self._left_to_dear or not turn.is_dear)
        return min(may_have_one, key=lambda turn: (turn.rank, turn.at_work), default=None)

    def _first_turns(self, only: _Line | None) -> Iterator[_Next]:
        for line in self._lines() if only is None else (only,):
            if (turns := self._turns_of(line)) is None:  # it has just been given its only one
                continue
            is_dear, rank = self._outlook(line.owner, next(iter(turns.values())))
            yield _Next(rank, self._at_work[line.owner], line, is_dear)

    def _lines(self) -> Iterable[_Line]:
        return (_Line(owner, account) for owner, accounts in self._waiting.items() for account in accounts)

    def _turns_of(self, line: _Line) -> _Turns | None:
        accounts = self._waiting.get(line.owner)
        return None if accounts is None else accounts.get(line.account)

    def _forget(self, line: _Line, turn: _Turn) -> None:
        turns = self._turns_of(line)
        if turns is None or turns.pop(turn, None) is None or turns:
            return
        del self._waiting[line.owner][line.account]
        if not self._waiting[line.owner]:
            del self._waiting[line.owner]
