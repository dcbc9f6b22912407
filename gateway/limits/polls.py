"""The rate limit of all requests that are no submits: a token bucket in memory for each account and replica.

What is remembered is bounded: past `most` accounts the one that asked longest ago is forgotten, and begins anew.
"""

import math
from collections import OrderedDict
from typing import Final

_MINUTE: Final = 60.0
_ROUNDING: Final = 1e-6  # as in buckets.py


class Polls:
    """The buckets of all accounts that asked lately. Times are seconds of one monotonic clock."""

    __slots__ = ("_most", "_tats")

    def __init__(self, most: int = 100_000) -> None:
        self._tats: OrderedDict[str, float] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._tats)

    def take(self, account: str, now: float, polls_per_minute: int) -> int | None:
        """Counts one request; the seconds to wait (1 or more) when there were too many.

        This is GCRA as buckets.py has it, with a burst of a minute's worth, written out, for each poll comes here.
        """
        tats = self._tats
        tat = tats.get(account, now)
        spent_until = (max(now, tat)) + _MINUTE / polls_per_minute
        wait = spent_until - now - _MINUTE
        if wait > _ROUNDING:
            return max(1, math.ceil(wait))
        tats[account] = spent_until
        tats.move_to_end(account)
        if len(tats) > self._most:
            tats.popitem(last=False)
        return None
