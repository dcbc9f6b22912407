"""Which accounts are near one of their limits: found at most once in some seconds, for all who ask.

Tens of thousands are looked at, so in portions: none holds the loop.
"""

import asyncio
from bisect import insort
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from gateway.admin.portions import convert_all
from gateway.aio.iteration import Iteration
from gateway.config.state import Live, profile_of
from gateway.ledger.ledger import Ledger
from gateway.ledger.usage import WindowRow, in_flight, read_counts_of_many, windows_now
from gateway.limits.quotas import AccountCounts, Limit, Windows, budgets_of, limits_of, windows_at
from gateway.model.account_names import ANYONE, key_id_of
from gateway.model.identity import Profile
from gateway.observe.callers_seen import CallersSeen

_SHARED_FOR: Final = 10.0
_MOST_COUNTED: Final = 20_000
MOST_CANDIDATES: Final = 2000
AT_ONCE: Final = 150  # rows that are looked at: some milliseconds


class Near(NamedTuple):
    """An account, and one limit of which it has used most."""

    account: str
    profile: Profile
    limit: Limit

    @property
    def share(self) -> float:
        """How much of the limit is used; more than 1 after it was lowered."""
        return self.limit.ratio


class Found(NamedTuple):
    """Those that are near, the nearest first; accounts of which no profile is known; whether all were looked at."""

    near: list[Near]
    unknown: int
    is_complete: bool


class NearAccounts:
    """Finds them. A caller soon after another gets that one's result.

    `known` gives the profile of an account, None if it is not known; `wall` is in seconds since the epoch, `clock`
    never goes back; `iteration` is of the loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        known: Callable[[str], Profile | None],
        wall: Callable[[], float],
        clock: Callable[[], float],
        iteration: Iteration,
    ) -> None:
        self._ledger = ledger
        self._known = known
        self._wall = wall
        self._clock = clock
        self._iteration = iteration
        self._finding = asyncio.Lock()
        self._last: tuple[float, Found] | None = None
        self._changes = 0

    async def find(self) -> Found:
        """Looks at all accounts that were used this month or have something in flight.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        async with self._finding:
            began, changes = self._clock(), self._changes
            if self._last is not None and began - self._last[0] < _SHARED_FOR:
                return self._last[1]
            found = await self._find(self._wall())
            if changes == self._changes:
                self._last = began, found
            return found

    def forget(self) -> None:
        """Something was changed: callers from now on get a new result."""
        self._last = None
        self._changes += 1

    async def _find(self, now: float) -> Found:
        rows = await self._ledger.report(lambda c: windows_now(c, now, _MOST_COUNTED + 1))
        open_ = await self._ledger.report(lambda c: in_flight(c, _MOST_COUNTED))
        choice = _Choice(self._known, now)
        await convert_all(rows[:_MOST_COUNTED], choice.consider_used, self._iteration, AT_ONCE)
        await convert_all(open_, choice.consider_open, self._iteration, AT_ONCE)
        candidates = list(choice.chosen)[:MOST_CANDIDATES]
        counts = await self._ledger.report(lambda c: read_counts_of_many(c, candidates, now))
        ranking = _Ranking(partial(_near, choice.profiles, now, choice.windows))
        await convert_all(list(counts.items()), ranking.add, self._iteration)
        is_complete = len(rows) <= _MOST_COUNTED and len(choice.chosen) <= MOST_CANDIDATES
        return Found(ranking.nearest_first(), choice.unknown, is_complete)


class _Choice:
    """Chooses the accounts that are worth counting, one by one: `chosen`, in this order."""

    def __init__(self, known: Callable[[str], Profile | None], now: float) -> None:
        self._known = known
        self._now = now
        self.windows = windows_at(now)
        self.profiles: dict[str, Profile | None] = {}
        self.chosen: dict[str, None] = {}
        self.unknown = 0

    def consider_used(self, row: WindowRow) -> None:
        """Those of which one budget is near its end if nothing is granted: there are few."""
        profile = self._profile(row.account)
        if profile is None:
            return
        counts = AccountCounts(day=row.day, month=row.month)
        if any(budget.is_near for budget in budgets_of(profile, counts, self._now, self.windows)):
            self.chosen[row.account] = None

    def consider_open(self, account: str) -> None:
        if self._profile(account) is not None:
            self.chosen[account] = None

    def _profile(self, account: str) -> Profile | None:
        if account not in self.profiles:
            self.profiles[account] = self._known(account)
            self.unknown += self.profiles[account] is None
        return self.profiles[account]


class _Ranking:
    """Those that are near, in order as they are found: to sort them all at the end takes ten milliseconds at once."""

    def __init__(self, near: Callable[[tuple[str, AccountCounts]], list[Near]]) -> None:
        self._near = near
        self._ranked: list[tuple[float, str, int, Near]] = []

    def add(self, counted: tuple[str, AccountCounts]) -> None:
        for one in self._near(counted):
            insort(self._ranked, (-one.share, one.account, len(self._ranked), one))

    def nearest_first(self) -> list[Near]:
        return [one for _, _, _, one in self._ranked]


def known_profile(live: Live, seen: CallersSeen, account: str) -> Profile | None:
    """The limits of an account; those of a caller are known once this replica has seen him."""
    if account == ANYONE:
        return live.state.anonymous
    if key_id_of(account) is not None:
        return profile_of(live.state, account)
    sighting = seen.sighting(account)
    return None if sighting is None or sighting.profile is None else live.state.profiles.get(sighting.profile)


def _near(
    profiles: dict[str, Profile | None], now: float, windows: Windows, counted: tuple[str, AccountCounts]
) -> list[Near]:
    """Its limits that are, but for the rate: that is of a minute."""
    account, counts = counted
    profile = profiles[account]
    if profile is None:
        return []
    limits = limits_of(profile, counts._replace(tat=0.0), now, windows)
    return [Near(account, profile, limit) for limit in limits if limit.used and limit.is_near]
