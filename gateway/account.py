"""What GET /gateway/v1/me tells its caller of himself: pure."""

from datetime import UTC, datetime
from typing import Any

from gateway.limits.prices import MILLION
from gateway.limits.report import limits_report
from gateway.limits.standing import Standing, Used
from gateway.model import Permit


def account_report(permit: Permit, standing: Standing, now: float) -> dict[str, Any]:
    """Id, owner, profile, scopes and limits; `now` is in seconds since the epoch."""
    identity, profile = permit.identity, permit.profile
    ends = identity.expires_at if identity else None
    return {
        "id": identity.key_id if identity else None,
        "owner": identity.owner if identity else None,
        "authentication": identity.label[0] if identity else None,
        "generation": identity.generation or None if identity else None,
        "expires_at": f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}" if ends is not None else None,
        "scopes": sorted(identity.scopes) if identity else [],
        "profile": profile.name,
        "page_range": "required" if profile.needs_page_range else "optional",
        "soft_limit": profile.soft_limit,
        "usage": {"day": _used(standing.day), "month": _used(standing.month)},
        "limits": limits_report(profile, standing, now),
    }


def _used(used: Used) -> dict[str, Any]:
    return {"requests": used.requests, "pages": used.pages, "spend": used.spend / MILLION}
