"""An account's limits and usage, as GET /gateway/v1/me and `gateway explain` show them: pure."""

from typing import Any

from gateway.limits.prices import MILLION, SPEND
from gateway.limits.quotas import AccountCounts, Limit, Used, limits_of, soft_limits
from gateway.model.identity import Profile
from gateway.model.request import Permit
from gateway.units import maybe_moment, moment


def limits_report(profile: Profile, counts: AccountCounts, now: float) -> dict[str, Any]:
    """All limits by name: the counted ones with used and remaining amounts, and those of each single request."""
    crossed = soft_limits(profile, counts, now)
    counted = {limit.name: _row(limit, is_soft=limit.name in crossed) for limit in limits_of(profile, counts, now)}
    return {
        **counted,
        "polls_per_minute": {"limit": profile.polls_per_minute},
        "concurrent_downloads": {"limit": profile.concurrent_downloads},
        "pages_per_request": {"limit": profile.pages_per_request},
        "body_limit": {"limit": profile.body_limit},
    }


def _row(limit: Limit, *, is_soft: bool) -> dict[str, Any]:
    values: dict[str, Any] = {"limit": limit.limit, "used": limit.used, "remaining": limit.remaining}
    if limit.name == SPEND:
        values = {name: value / MILLION for name, value in values.items()}
    if limit.resets_at is not None:
        values["resets_at"] = moment(limit.resets_at)
    if is_soft:
        values["soft_limit_crossed"] = True
    return values


def account_report(permit: Permit, counts: AccountCounts, now: float) -> dict[str, Any]:
    """Id, owner, profile, scopes and limits; `now` is in seconds since the epoch."""
    identity, profile = permit.identity, permit.profile
    ends = identity.expires_at if identity else None
    return {
        "id": identity.key_id if identity else None,
        "owner": identity.owner if identity else None,
        "authentication": identity.label[0] if identity else None,
        "generation": identity.generation or None if identity else None,
        "expires_at": maybe_moment(ends),
        "scopes": sorted(identity.scopes) if identity else [],
        "profile": profile.name,
        "page_range": "required" if profile.needs_page_range else "optional",
        "soft_limit": profile.soft_limit,
        "usage": {"day": used_report(counts.day), "month": used_report(counts.month)},
        "limits": limits_report(profile, counts, now),
    }


def used_report(used: Used) -> dict[str, Any]:
    """What is used up in a window, by name."""
    return {"requests": used.requests, "pages": used.pages, "spend": used.spend / MILLION}
