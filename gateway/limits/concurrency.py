"""Requests in flight other than submits: one count per account, in memory, for this replica alone.

A submit's slot is in the ledger, because it may cost pages wherever it is served. A request forwarded without a job
costs the upstream a connection while it runs, and nothing afterwards; a result costs it the memory that holds it
until its reader took it.
"""

from collections import Counter
from collections.abc import Callable

from gateway.model.identity import Profile
from gateway.model.reasons import RETRY_SOON, Denial, Reason


class Concurrency:
    """How many requests each account has in flight; an account without any is not stored.

    `most` says how many it may have, `subject` what they are.
    """

    __slots__ = ("_most", "_subject", "_taken")

    def __init__(self, most: Callable[[Profile], int], subject: str) -> None:
        self._most = most
        self._subject = subject
        self._taken: Counter[str] = Counter()

    def check(self, account: str, profile: Profile) -> Denial | None:
        """Returns a denial if all slots are taken."""
        taken = self._taken[account]  # of a Counter: nothing is stored
        if taken < self._most(profile):
            return None
        return Denial(Reason.TOO_MANY_REQUESTS_IN_FLIGHT, f"{taken} {self._subject}.", retry_after=RETRY_SOON)

    def take(self, account: str, profile: Profile) -> Denial | None:
        """Takes a slot; returns a denial if all are taken."""
        denial = self.check(account, profile)
        if denial is None:
            self._taken[account] += 1
        return denial

    def give_back(self, account: str) -> None:
        """Gives a slot back."""
        self._taken[account] -= 1
        if not self._taken[account]:
            del self._taken[account]

    def __len__(self) -> int:
        return len(self._taken)


def plain_requests() -> Concurrency:
    """Counts requests of kind plain."""
    subject = "requests of this account have no answer yet (concurrent_requests)"
    return Concurrency(lambda profile: profile.concurrent_requests, subject)


def downloads() -> Concurrency:
    """Counts answers about jobs that are being read."""
    subject = "results are being read by this account (concurrent_downloads)"
    return Concurrency(lambda profile: profile.concurrent_downloads, subject)
