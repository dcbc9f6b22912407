"""Rate limits the log events for refusals of unauthenticated clients, and sums up the rest. Pure.

A client without a key may send as many requests as connections allow, and each refusal is an event of 500 bytes. Such
a client must not fill the disk, nor hide other clients' actions in its noise. So each address may cause some events
a second, and all addresses together some more; refusals beyond that are summed up in one event per address, every
ten seconds.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from gateway.limits.buckets import Rate, take, wait_for

OF_ONE: Final = Rate(per_second=5.0, burst=20.0)
OF_ALL: Final = Rate(per_second=100.0, burst=400.0)
EVERY: Final = 10.0
OTHERS: Final = "others"
MAX: Final = 1000
AT_ONCE: Final = 60
"""Sums of one call of `due`: with a dozen reasons each costs up to a tenth of a millisecond."""


class Sum(NamedTuple):
    """Refusals without an event of their own: the address (or `others`), the count, and the count by reason."""

    client: str
    refusals: int
    reasons: dict[str, int]


class RefusalSampling:
    """Refusals of unauthenticated clients by address; times are in seconds of any clock."""

    def __init__(self) -> None:
        self._of_one: OrderedDict[str, float] = OrderedDict()
        self._of_all = 0.0
        self._sums: dict[str, Counter[str]] = {}
        self._due: dict[str, Counter[str]] = {}
        self._told_at = 0.0

    def __repr__(self) -> str:
        return f"<RefusalSampling addresses={len(self._of_one)} sums={len(self._sums)}>"

    def may_log(self, client: str, reason: str, now: float) -> bool:
        """Whether a refusal gets an event of its own; if not, counts it."""
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
        """Takes out sums that are due, the first AT_ONCE of them; the next call has more."""
        if now - self._told_at >= EVERY and not self._due:
            self._told_at = now
            self._due, self._sums = self._sums, {}
        for client in list(islice(self._due, AT_ONCE)):
            yield _sum(client, self._due.pop(client))

    def all(self) -> Iterator[Sum]:
        """Takes out all sums, at shutdown."""
        due, sums = self._due, self._sums
        self._due, self._sums = {}, {}
        for client, reasons in (*due.items(), *sums.items()):
            yield _sum(client, reasons)

    def _count(self, client: str, reason: str) -> None:
        if client not in self._sums and len(self._sums) >= MAX:
            client = OTHERS
        self._sums.setdefault(client, Counter())[str(reason)] += 1


def _sum(client: str, reasons: Counter[str]) -> Sum:
    return Sum(client, reasons.total(), dict(reasons))
