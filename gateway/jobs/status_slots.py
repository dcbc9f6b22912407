"""Slots for the status requests to one upstream: urgent ones first, owners in turn. Pure.

While others wait, an owner has half of the slots at most, and three quarters while none waits (of four or more): so
however many jobs it has and however long its answers take (ten minutes, when they are large), the next owner finds
one. Its deletions may have all. Of four slots one goes to held polls first, and one to what is least urgent, so that
neither others' deletions nor held polls keep the rest from being asked.
"""

from collections import Counter, OrderedDict, deque
from enum import IntEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Urgency(IntEnum):
    """Who waits for the answer."""

    DELETION = 0
    HELD = 1
    NOBODY = 2


_ORDERS: Final = (
    (Urgency.DELETION, Urgency.HELD, Urgency.NOBODY),
    (Urgency.HELD, Urgency.DELETION, Urgency.NOBODY),
    (Urgency.DELETION, Urgency.HELD, Urgency.NOBODY),
    (Urgency.NOBODY, Urgency.DELETION, Urgency.HELD),
)
"""Of each slot that is given, one after the other."""


class StatusSlots(Generic[T]):
    """What waits for a slot, by urgency and owner, and how many slots are taken."""

    def __init__(self) -> None:
        self._waiting: dict[Urgency, OrderedDict[str, deque[T]]] = {urgency: OrderedDict() for urgency in Urgency}
        self._owners: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._given = 0
        self.taken = 0
        """How many slots are taken."""

    def __repr__(self) -> str:
        return f"<StatusSlots taken={self.taken} waiting={self._owners.total()}>"

    def put(self, owner: str, urgency: Urgency, what: T) -> None:
        """Queues one."""
        self._waiting[urgency].setdefault(owner, deque()).append(what)
        self._owners[owner] += 1

    def first(self) -> list[T]:
        """The first of each queue."""
        return [queue[0] for owners in self._waiting.values() for queue in owners.values()]

    def take(self, most: int) -> tuple[str, T] | None:
        """Takes the next one, which has a slot from now on, of `most`; None if none that waits may have one."""
        if self.taken >= most:
            return None
        alone = len(self._owners) == 1
        share = most - most // 4 if alone else (most + 1) // 2  # two owners that have half have all
        for urgency in _ORDERS[self._given % len(_ORDERS)]:
            for owner in self._waiting[urgency]:
                if self._running[owner] < share or (alone and urgency is Urgency.DELETION):
                    return owner, self._take(urgency, owner)
        return None

    def give_back(self, owner: str, *, unused: bool = False) -> None:
        """Frees a slot. `unused`: what had it needed none."""
        self.taken -= 1
        self._given -= unused
        self._drop_one(self._running, owner)

    def _take(self, urgency: Urgency, owner: str) -> T:
        owners = self._waiting[urgency]
        queue = owners[owner]
        what = queue.popleft()
        owners.move_to_end(owner)
        if not queue:
            del owners[owner]
        self._drop_one(self._owners, owner)
        self._running[owner] += 1
        self.taken += 1
        self._given += 1
        return what

    @staticmethod
    def _drop_one(counter: Counter[str], owner: str) -> None:
        counter[owner] -= 1
        if counter[owner] <= 0:
            del counter[owner]
