"""An account's counts against its profile, and whether one more submit fits: pure decisions on counts.

The rate limit of submits (a token bucket) is here, too: `take_submit` takes a token. Each submit is decided twice: by
`refuse_submit` before its body, or, where that is small, right before the other (rate, concurrency, budgets and pages
in flight already used up), and by `refuse_pages` before the body's end is released (pages and the spend limit). The
ledger counts what was decided in the same transaction, so there can be no race.
"""

import math
from datetime import UTC, datetime
from typing import Final, NamedTuple

from gateway.limits.buckets import Rate, per_minute, take, wait_for
from gateway.limits.prices import MILLION, SPEND
from gateway.limits.windows import Window, day_of, month_of
from gateway.model.identity import Profile
from gateway.model.reasons import RETRY_SOON, Denial, Reason

NEAR: Final = 0.8
"""The share of a limit from which on its account is near it, for those who look after accounts."""

_MINUTE: Final = 60


class Used(NamedTuple):
    """What was used in a calendar window: submits, pages (reserved ones included), spend in millionths."""

    requests: int = 0
    pages: int = 0
    spend: int = 0


class Uncounted(NamedTuple):
    """Requests that a day's and a month's counts do not have yet: 1 where a submit was admitted in an earlier one."""

    day: int = 0
    month: int = 0


ALL_COUNTED: Final = Uncounted()


class AccountCounts(NamedTuple):
    """The counts of an account at one moment.

    `tat` is the submit bucket's, in seconds since the epoch; `granted` are the pages that grants now add to the page
    budgets.
    """

    tat: float = 0.0
    concurrent: int = 0
    pages_in_flight: int = 0
    day: Used = Used()
    month: Used = Used()
    granted: int = 0


class Limit(NamedTuple):
    """One limit as its account sees it. `resets_at` is in seconds since the epoch, `window` in seconds."""

    name: str
    limit: int
    used: int
    resets_at: float | None = None
    window: int | None = None

    @property
    def remaining(self) -> int:
        """What is left of it; never negative."""
        return max(0, self.limit - self.used)

    @property
    def ratio(self) -> float:
        """The share of it that is used."""
        return self.used / self.limit if self.limit else 1.0

    @property
    def is_near(self) -> bool:
        """Whether its account is near it."""
        return self.ratio >= NEAR


class Windows(NamedTuple):
    """The calendar windows of a moment."""

    day: Window
    month: Window


def windows_at(now: float) -> Windows:
    """Those that contain a moment, in seconds since the epoch."""
    return Windows(day_of(now), month_of(now))


def take_submit(profile: Profile, tat: float, now: float) -> float:
    """Takes one submit's token: the TAT of its account's token bucket after that."""
    rate = per_minute(profile.requests_per_minute)
    return take(_believable(tat, now, rate), now, 1, rate)


def wait_for_submit(profile: Profile, counts: AccountCounts, now: float, more: int = 1) -> float:
    """Seconds until the token bucket has so many tokens more; 0.0 if it has them now."""
    rate = per_minute(profile.requests_per_minute)
    return wait_for(_believable(counts.tat, now, rate), now, more, rate)


def refuse_submit(profile: Profile, counts: AccountCounts, now: float) -> Denial | None:
    """Decides a submit by its head alone; None admits it."""
    wait = wait_for_submit(profile, counts, now)
    if wait:
        detail = f"This account may submit {profile.requests_per_minute} times a minute (requests_per_minute)."
        return Denial(Reason.RATE_LIMITED, detail, retry_after=math.ceil(wait))
    if counts.concurrent >= profile.concurrent_requests:
        detail = f"{counts.concurrent} submits of this account have no answer yet (concurrent_requests)."
        return Denial(Reason.TOO_MANY_REQUESTS_IN_FLIGHT, detail, retry_after=RETRY_SOON)
    more = Used(requests=1, pages=1)
    exhausted = _refuse_budget(profile, counts, more, more, now)
    if exhausted is None and counts.pages_in_flight >= profile.pages_in_flight:
        return _in_flight(profile, counts, 1)
    return exhausted


def refuse_pages(
    profile: Profile,
    counts: AccountCounts,
    pages: int,
    spend: int,
    now: float,
    uncounted: Uncounted = ALL_COUNTED,
) -> Denial | None:
    """Decides a submit by the most pages that it may cost, and by the request itself where it is not counted yet."""
    if counts.pages_in_flight + pages > profile.pages_in_flight:
        return _in_flight(profile, counts, pages)
    day, month = (Used(requests, pages, spend) for requests in uncounted)
    return _refuse_budget(profile, counts, day, month, now)


def budgets_of(profile: Profile, counts: AccountCounts, now: float, windows: Windows | None = None) -> list[Limit]:
    """The limits that have a calendar window: those of `now`, given where many accounts are looked at."""
    if not profile.has_budgets:
        return []
    day, month = windows or windows_at(now)
    granted = counts.granted
    rows: list[tuple[str, int | None, int, Window]] = [
        ("pages_per_day", _more(profile.pages_per_day, granted), counts.day.pages, day),
        ("pages_per_month", _more(profile.pages_per_month, granted), counts.month.pages, month),
        ("requests_per_day", profile.requests_per_day, counts.day.requests, day),
        ("requests_per_month", profile.requests_per_month, counts.month.requests, month),
        (SPEND, profile.spend_per_month, counts.month.spend, month),
    ]
    return [Limit(name, limit, used, w.end, w.seconds) for name, limit, used, w in rows if limit is not None]


def limits_of(profile: Profile, counts: AccountCounts, now: float, windows: Windows | None = None) -> list[Limit]:
    """All limits of an account that are counted, the submit rate first."""
    rate = per_minute(profile.requests_per_minute)
    debt = min(max(0.0, _believable(counts.tat, now, rate) - now), rate.burst / rate.per_second)
    spent = math.ceil(round(debt * rate.per_second, 2))  # as coarse as buckets: of seconds since 1970 little is left
    return [
        Limit("requests_per_minute", profile.requests_per_minute, spent, now + debt, _MINUTE),
        Limit("concurrent_requests", profile.concurrent_requests, counts.concurrent),
        Limit("pages_in_flight", profile.pages_in_flight, counts.pages_in_flight),
        *budgets_of(profile, counts, now, windows),
    ]


def ratios_of(profile: Profile, counts: AccountCounts, now: float) -> dict[str, float]:
    """The share of each limit that is used."""
    return {limit.name: limit.ratio for limit in limits_of(profile, counts, now)}


def soft_limits(profile: Profile, counts: AccountCounts, now: float) -> frozenset[str]:
    """The names of the budgets of which soft_limit or more is used."""
    return soft_among(profile, budgets_of(profile, counts, now))


def soft_among(profile: Profile, limits: list[Limit]) -> frozenset[str]:
    """The same, of an account's limits as `limits_of` or `budgets_of` gives them."""
    if not profile.has_budgets:
        return frozenset()
    return frozenset(limit.name for limit in limits if _is_budget(limit) and limit.ratio >= profile.soft_limit)


def rate_limit_lines(profile: Profile, limits: list[Limit], now: float) -> tuple[bytes, ...]:
    """RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10), and which soft limits are crossed.

    `limits` are all of an account, from `limits_of`.
    """
    shown = [limit for limit in limits if limit.window and limit.name != SPEND]
    policies = [f'"{limit.name}";q={limit.limit};w={limit.window}' for limit in shown]
    left = [
        f'"{limit.name}";r={limit.remaining};t={math.ceil(max(0.0, (limit.resets_at or now) - now))}'
        for limit in shown
    ]
    lines = [f"RateLimit-Policy: {', '.join(policies)}", f"RateLimit: {', '.join(left)}"]
    crossed = soft_among(profile, limits)
    if crossed:
        lines.append(f"X-Gateway-Soft-Limit: {', '.join(sorted(crossed))}")
    return tuple(line.encode("ascii") for line in lines)


def _is_budget(limit: Limit) -> bool:
    return limit.window is not None and limit.window != _MINUTE


def _in_flight(profile: Profile, counts: AccountCounts, pages: int) -> Denial:
    detail = (
        f"{counts.pages_in_flight} pages of this account are being converted; {pages} more would be over "
        f"{profile.pages_in_flight} (pages_in_flight)."
    )
    return Denial(Reason.TOO_MANY_PAGES_IN_FLIGHT, detail, retry_after=RETRY_SOON)


def _refuse_budget(profile: Profile, counts: AccountCounts, day: Used, month: Used, now: float) -> Denial | None:
    """Decides by what a submit adds to the counts of the day and of the month."""
    for limit in budgets_of(profile, counts, now):
        kind, _, period = limit.name.split("_")
        cost: int = getattr(day if period == "day" else month, kind)
        if cost and limit.used + cost > limit.limit:
            return _exhausted(limit, kind, cost)
    return None


def _exhausted(limit: Limit, kind: str, cost: int) -> Denial:
    until = f"{datetime.fromtimestamp(limit.resets_at or 0, UTC):%Y-%m-%d}"
    subject = {"pages": "Page", "requests": "Request", "spend": "Spend"}[kind]
    is_used_up = limit.used >= limit.limit
    title = f"{subject} budget {'used up' if is_used_up else 'too small for this'} until {until}"
    if kind == "spend":
        used, most, needed = (f"{value / MILLION:.6g}" for value in (limit.used, limit.limit, cost))
    else:
        used, most, needed = map(str, (limit.used, limit.limit, cost))
    detail = f"{used} of {most} are used or reserved and this needs {needed} ({limit.name}); it resets on {until}."
    return Denial(Reason.BUDGET_EXHAUSTED, detail, title=title)


def _believable(tat: float, now: float, rate: Rate) -> float:
    """Returns the TAT, or `now` if it is over two bursts ahead: then it dates from before the clock was set back.

    Such a TAT must not lock an account out until the clock catches up. An account may owe one burst, and the clocks
    of replicas may differ by another one: a smaller bound could forgive debt.
    """
    return tat if tat - now <= 2 * rate.burst / rate.per_second else now


def _more(limit: int | None, granted: int) -> int | None:
    return None if limit is None else limit + granted
