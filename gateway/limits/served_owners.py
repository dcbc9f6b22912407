"""Who was served longest ago, where more owners wait than there are places. Pure.

Of owners that have equally much, the one whose request is the oldest would be next again and again: one with a
thousand of them, then, until all of these are done.
"""

from typing import Final

MAX: Final = 10_000


class ServedOwners:
    """When each owner was served last, as a number that grows; of at most MAX, those served last.

    `looked_up_to` is for who looks for those that wait by name, some at a time: the last one looked at.
    """

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._count = 0
        self.looked_up_to = ""

    def __len__(self) -> int:
        return len(self._served)

    def note(self, owner: str) -> None:
        """An owner is served now."""
        self._count += 1
        self._served.pop(owner, None)
        self._served[owner] = self._count
        if len(self._served) > MAX:
            del self._served[next(iter(self._served))]

    def last(self, owner: str) -> int:
        """When an owner was served last: whoever has the lowest number is next; 0 if it is not known, or never."""
        return self._served.get(owner, 0)
