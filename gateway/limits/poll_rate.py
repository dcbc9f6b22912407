"""The rate limit of all requests other than submits: a token bucket in memory for each account and replica.

The setting is named after most of them: `polls_per_minute`. Memory is bounded: beyond `most` accounts, the one that
asked longest ago is forgotten, and starts with a full bucket.
"""

import math
from collections import OrderedDict

from gateway.limits.buckets import per_minute, take, wait_for


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
        rate = per_minute(polls_per_minute)
        tats = self._tats
        tat = tats.get(account, now)
        wait = wait_for(tat, now, 1, rate)
        if wait:
            return max(1, math.ceil(wait))
        tats[account] = take(tat, now, 1, rate)
        tats.move_to_end(account)
        if len(tats) > self._most:
            tats.popitem(last=False)
        return None
