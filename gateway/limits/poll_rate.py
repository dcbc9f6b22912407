"""The rate limit of all requests other than submits: a token bucket in memory for each account and replica.

The setting is named after most of them: `polls_per_minute`. Memory is bounded: beyond `most` accounts, the one that
asked longest ago is forgotten, and starts with a full bucket.
"""

import math
from collections import OrderedDict
from typing import Final

from gateway.limits.buckets import per_minute, wait_for

_BURST: Final = 60.0
"""Seconds of debt that a full bucket covers, whatever the rate. Who owes more is judged by buckets.py: it rounds."""


class PollRate:
    """The buckets of all accounts that asked lately. Times are seconds of one monotonic clock."""

    __slots__ = ("_most", "_tats")

    def __init__(self, most: int = 100_000) -> None:
        self._tats: OrderedDict[str, float] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._tats)

    def take(self, account: str, now: float, polls_per_minute: int) -> int | None:
        """Counts one request; returns the seconds to wait (1 or more) if there were too many."""
        tats = self._tats
        tat = tats.get(account, now)
        taken = max(tat, now) + 60 / polls_per_minute
        if taken - now > _BURST and (wait := wait_for(tat, now, 1, per_minute(polls_per_minute))):
            return max(1, math.ceil(wait))
        tats[account] = taken
        tats.move_to_end(account)
        if len(tats) > self._most:
            tats.popitem(last=False)
        return None
