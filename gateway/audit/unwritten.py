"""What waits to be written to the ledger: bounded, the oldest first, exact also while a part of it is written."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Unwritten(Generic[Item]):
    """At most `most` items. One writer takes some of them at a time, while others may put more."""

    __slots__ = ("_held", "_items", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._held = 0  # so many, from the oldest on, are being written

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> Item | None:
        """Lets it wait. Gives back what has no room any more: the oldest of those that are not being written."""
        self._items.append(item)
        if len(self._items) <= self._most:
            return None
        dropped = self._items[self._held]
        del self._items[self._held]
        return dropped

    @contextmanager
    def some(self, most: int) -> Iterator[list[Item]]:
        """The oldest, to be written within; they are gone afterwards, or wait on if that raised."""
        some = list(islice(self._items, most))
        self._held = len(some)
        try:
            yield some
            for _ in some:
                self._items.popleft()
        finally:
            self._held = 0

    def take_oldest(self) -> Item:
        """Takes out the oldest. Not while some are being written."""
        return self._items.popleft()
