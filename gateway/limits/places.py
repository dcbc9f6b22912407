"""Requests in flight that are no submits, one count for each account, in memory: of this replica alone.

What a submit takes is in the ledger, because it may cost pages wherever it is served. What is forwarded without a job
costs the upstream a connection for as long as it runs, and nothing afterwards.
"""

from collections import Counter
from typing import Final

from gateway.model.caller import Profile
from gateway.model.reasons import Denial, Reason

_RETRY: Final = 5


class Concurrency:
    """How many requests each account has under way; an account that has none is not remembered."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, account: str, profile: Profile) -> Denial | None:
        """Takes a place, or says why there is none."""
        taken = self._taken[account]
        if taken >= profile.concurrent_requests:
            detail = f"{taken} requests of this account have no answer yet (concurrent_requests)."
            return Denial(Reason.TOO_MANY_REQUESTS_IN_FLIGHT, detail, retry_after=_RETRY)
        self._taken[account] = taken + 1
        return None

    def give_back(self, account: str) -> None:
        """Gives a place back that was taken."""
        self._taken[account] -= 1
        if not self._taken[account]:
            del self._taken[account]

    def __len__(self) -> int:
        return len(self._taken)
