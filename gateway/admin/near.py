"""Which accounts are near one of their limits: keys, and callers by token and certificate whose profile is known."""

from typing import Final

from gateway.admin import overview_answers
from gateway.admin.context import Call, Context
from gateway.admin.near_accounts import Near
from gateway.admin.portions import convert_all
from gateway.admin.requests import NearQuery
from gateway.limits.prices import MILLION, SPEND
from gateway.model.account_names import key_id_of
from gateway.model.identity import Profile
from gateway.units import maybe_moment

_MOST_NAMED: Final = 1000


async def near_limits(context: Context, call: Call) -> overview_answers.NearLimits:
    """Lists who is near a limit, the nearest first."""
    query: NearQuery = call.query
    found = await context.near.find()
    return overview_answers.NearLimits(
        near=await convert_all(found.near[: query.limit], _near_limit, context.iteration),
        total=len(found.near),
        unknown=found.unknown,
        is_complete=found.is_complete,
    )


async def names_near(context: Context) -> frozenset[str]:
    """The accounts that are near a limit; the nearest ones if there are very many."""
    found = await context.near.find()
    return frozenset([near.account for near in found.near][:_MOST_NAMED])


def page_budgets(profile: Profile | None) -> list[str] | None:
    """The budgets that grants add to; None: the profile is not known."""
    if profile is None:
        return None
    budgets = {"pages_per_day": profile.pages_per_day, "pages_per_month": profile.pages_per_month}
    return [name for name, most in budgets.items() if most is not None]


def _near_limit(near: Near) -> overview_answers.NearLimit:
    unit = MILLION if near.limit.name == SPEND else 1
    return overview_answers.NearLimit(
        account=near.account,
        key=key_id_of(near.account),
        profile=near.profile.name,
        name=near.limit.name,
        used=near.limit.used / unit if unit > 1 else near.limit.used,
        limit=near.limit.limit / unit if unit > 1 else near.limit.limit,
        share=round(near.share, 4),
        resets_at=maybe_moment(near.limit.resets_at),
    )
