"""Which refusals of strangers the log tells one by one, and which it sums up. Pure.

Whoever has no key may ask for as much as connections allow, and each refusal is an event of 500 bytes: a stranger
must not fill the disk, nor hide among his own noise what others do. So each address has some events a second, and all
addresses together have some more; what is beyond that is told in one event for each address, every ten seconds.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.limits.buckets import Rate, take, wait_for

OF_ONE: Final = Rate(per_second=5.0, burst=20.0)
OF_ALL: Final = Rate(per_second=100.0, burst=400.0)
EVERY: Final = 10.0
OTHERS: Final = "others"
MAX: Final = 1000


class Sum(NamedTuple):
    """Refusals that were not told one by one: of an address (or of `others`), how many by reason."""

    client: str
    refusals: int
    reasons: dict[str, int]


class RefusalSampling:
    """The refusals of strangers by address; times are in seconds of any clock."""

    def __init__(self) -> None:
        self._of_one: OrderedDict[str, float] = OrderedDict()
        self._of_all = 0.0
        self._sums: dict[str, Counter[str]] = {}
        self._told_at = 0.0

    def __repr__(self) -> str:
        return f"<RefusalSampling addresses={len(self._of_one)} sums={len(self._sums)}>"

    def is_told(self, client: str, reason: str, now: float) -> bool:
        """Whether a refusal is an event of its own; if not, it is counted."""
        tat = self._of_one.get(client, 0.0)
        if wait_for(tat, now, 1, OF_ONE) or wait_for(self._of_all, now, 1, OF_ALL):
            self._count(client, reason)
            return False
        self._of_all = take(self._of_all, now, 1, OF_ALL)
        self._of_one[client] = take(tat, now, 1, OF_ONE)
        self._of_one.move_to_end(client)
        if len(self._of_one) > MAX:
            self._of_one.popitem(last=False)
        return True

    def due(self, now: float) -> Iterator[Sum]:
        """Takes the sums, when it is time."""
        if now - self._told_at >= EVERY:
            self._told_at = now
            yield from self.all()

    def all(self) -> Iterator[Sum]:
        """Takes the sums, at the end."""
        sums, self._sums = self._sums, {}
        for client, reasons in sums.items():
            yield Sum(client, reasons.total(), dict(reasons))

    def _count(self, client: str, reason: str) -> None:
        if client not in self._sums and len(self._sums) >= MAX:
            client = OTHERS
        self._sums.setdefault(client, Counter())[str(reason)] += 1
