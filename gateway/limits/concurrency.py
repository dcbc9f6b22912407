"""Requests in flight other than submits: one count per account, in memory, for this replica alone.

A submit's slot is in the ledger, because it may cost pages wherever it is served. A request forwarded without a job
costs the upstream a connection while it runs, and nothing afterwards.
"""

from collections import Counter
from typing import Final

from gateway.model.identity import Profile
from gateway.model.reasons import Denial, Reason

_RETRY: Final = 5


class Concurrency:
    """How many requests each account has in flight; an account without any is not stored."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, account: str, profile: Profile) -> Denial | None:
        """Takes a slot; returns a denial if all are taken."""
        taken = self._taken[account]
        if taken >= profile.concurrent_requests:
            detail = f"{taken} requests of this account have no answer yet (concurrent_requests)."
            return Denial(Reason.TOO_MANY_REQUESTS_IN_FLIGHT, detail, retry_after=_RETRY)
        self._taken[account] = taken + 1
        return None

    def give_back(self, account: str) -> None:
        """Gives a slot back."""
        self._taken[account] -= 1
        if not self._taken[account]:
            del self._taken[account]

    def __len__(self) -> int:
        return len(self._taken)
