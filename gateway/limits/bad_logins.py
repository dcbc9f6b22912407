"""The rate limit of bad logins: they drain a token bucket per address, so that guessing is slow.

An empty bucket refuses only credentials that fail, so no client can lock out others who share its address. Memory is
bounded: beyond `most` addresses, the one that failed longest ago is forgotten.
"""

import math
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address

from gateway.limits.buckets import Rate, take, wait_for
from gateway.model.networks import client_prefix


class BadLogins:
    """The buckets of all addresses that failed lately. Times are seconds of one monotonic clock."""

    __slots__ = ("_most", "_tats")

    def __init__(self, most: int = 100_000) -> None:
        self._tats: OrderedDict[bytes, float] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._tats)

    def count_failure(self, address: IPv4Address | IPv6Address, now: float, rate: Rate) -> int | None:
        """Counts one failure; returns the seconds to wait (1 or more) once the address has used up its failures."""
        subject = client_prefix(address)
        tat = self._tats.pop(subject, now)
        wait = wait_for(tat, now, 1, rate)
        self._tats[subject] = tat if wait else take(tat, now, 1, rate)
        if len(self._tats) > self._most:
            self._tats.popitem(last=False)
        return math.ceil(wait) if wait else None
