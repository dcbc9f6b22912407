"""Which accounts are near one of their limits: keys, and callers by token and certificate whose profile is known."""

from functools import partial
from typing import Final, NamedTuple

from gateway.admin import overview_answers
from gateway.admin.context import Call, Context
from gateway.admin.portions import convert_all
from gateway.admin.requests import NearQuery
from gateway.config.state import profile_of
from gateway.ledger.usage import WindowRow, in_flight, standings_of, windows_now
from gateway.limits.prices import MILLION
from gateway.limits.quotas import AccountCounts, Limit, Used, limits_of
from gateway.model.identity import Profile
from gateway.model.keys import key_of
from gateway.units import maybe_moment

_SHARE: Final = 0.8
_MOST_NAMED: Final = 1000
_MOST_COUNTED: Final = 20_000
_MOST_CANDIDATES: Final = 2000
_ANYONE: Final = "anyone"  # the account shared by all submits that need no key
_SPEND: Final = "spend_per_month"


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


async def near_limits(context: Context, call: Call) -> overview_answers.NearLimits:
    """Lists who is near a limit, the nearest first."""
    query: NearQuery = call.query
    found = await find_near(context)
    return overview_answers.NearLimits(
        near=[_told(near) for near in found.near[: query.limit]],
        total=len(found.near),
        unknown=found.unknown,
        is_complete=found.is_complete,
    )


async def names_near(context: Context) -> frozenset[str]:
    """The accounts that are near a limit; the nearest ones if there are very many."""
    found = await find_near(context)
    return frozenset([near.account for near in found.near][:_MOST_NAMED])


async def find_near(context: Context) -> Found:
    """Looks at all accounts that were used this month or have something in flight."""
    now = context.wall()
    rows = await context.ledger.report(lambda c: windows_now(c, now, _MOST_COUNTED + 1))
    open_ = await context.ledger.report(lambda c: in_flight(c, _MOST_COUNTED))
    looked = {row.account: row for row in rows[:_MOST_COUNTED]}
    looked |= {account: WindowRow(account, Used(), Used()) for account in open_ if account not in looked}
    profiles = dict(zip(looked, await convert_all(list(looked), partial(known_profile, context)), strict=True))
    chosen = [row.account for row in looked.values() if _may_be_near(profiles[row.account], row)] + open_
    candidates = list(dict.fromkeys(chosen))
    counts = await context.ledger.report(lambda c: standings_of(c, candidates[:_MOST_CANDIDATES], now))
    near = [one for account, standing in counts.items() for one in _near(account, profiles[account], standing, now)]
    near.sort(key=lambda one: (-one.share, one.account))
    is_complete = len(rows) <= _MOST_COUNTED and len(candidates) <= _MOST_CANDIDATES
    return Found(near, sum(profile is None for profile in profiles.values()), is_complete)


def _may_be_near(profile: Profile | None, row: WindowRow) -> bool:
    """Whether one budget is near its end if nothing is granted: there are few of these, and only they are counted."""
    if profile is None:
        return False
    budgets = (
        (profile.pages_per_day, row.day.pages),
        (profile.pages_per_month, row.month.pages),
        (profile.requests_per_day, row.day.requests),
        (profile.requests_per_month, row.month.requests),
        (profile.spend_per_month, row.month.spend),
    )
    return any(most is not None and used >= _SHARE * most for most, used in budgets)


def _near(account: str, profile: Profile | None, standing: AccountCounts, now: float) -> list[Near]:
    """Its limits that are, but for the rate: that is of a minute."""
    if profile is None:
        return []
    limits = limits_of(profile, standing._replace(tat=0.0), now)
    return [Near(account, profile, limit) for limit in limits if limit.used and limit.ratio >= _SHARE]


def page_budgets(profile: Profile | None) -> list[str] | None:
    """The budgets that grants add to; None: the profile is not known."""
    if profile is None:
        return None
    budgets = {"pages_per_day": profile.pages_per_day, "pages_per_month": profile.pages_per_month}
    return [name for name, most in budgets.items() if most is not None]


def known_profile(context: Context, account: str) -> Profile | None:
    """The limits of an account; those of a caller are known once this replica has seen him."""
    if account == _ANYONE:
        return context.live.state.anonymous
    if key_of(account) is not None:
        return profile_of(context.live.state, account)
    seen = context.watch.seen.sighting(account)
    return None if seen is None or seen.profile is None else context.live.state.profiles.get(seen.profile)


def _told(near: Near) -> overview_answers.NearLimit:
    unit = MILLION if near.limit.name == _SPEND else 1
    return overview_answers.NearLimit(
        account=near.account,
        key=key_of(near.account),
        profile=near.profile.name,
        name=near.limit.name,
        used=near.limit.used / unit if unit > 1 else near.limit.used,
        limit=near.limit.limit / unit if unit > 1 else near.limit.limit,
        share=round(near.share, 4),
        resets_at=maybe_moment(near.limit.resets_at),
    )
