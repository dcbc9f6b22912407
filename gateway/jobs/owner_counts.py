"""How many jobs each owner has, and for how many one of them counts where all share a number of requests. Pure."""

from collections import Counter


class OwnerCounts:
    """Counts jobs by owner."""

    __slots__ = ("_all", "_owners")

    def __init__(self) -> None:
        self._owners: Counter[str] = Counter()
        self._all = 0

    def __len__(self) -> int:
        """How many jobs there are."""
        return self._all

    def add(self, owner: str) -> None:
        """Counts one more."""
        self._owners[owner] += 1
        self._all += 1

    def drop(self, owner: str) -> None:
        """Counts one fewer."""
        self._owners[owner] -= 1
        self._all -= 1
        if not self._owners[owner]:
            del self._owners[owner]

    def shared_by(self, owner: str, *, others: bool = False) -> int:
        """How many jobs share the requests, as a job of this owner sees it; with `others` it is not counted here.

        All, but no more than if each owner had as many as this one: so one that has thousands makes no other wait.
        Together they are asked about at most twice as often as if each saw all.
        """
        owners = len(self._owners) + (others and owner not in self._owners)
        return min(self._all + others, (self._owners[owner] + others) * owners)
