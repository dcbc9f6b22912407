"""How commands and the admin API show keys and accounts of the ledger: plain values, never a secret. Pure.

Moments are ISO 8601 in UTC. The caller formats money: exact texts for people, numbers for programs.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Final

from gateway.config.settings import Settings
from gateway.model.keys import Generation, KeyRecord
from gateway.units import maybe_moment, moment

SCOPES: Final = frozenset({"admin"})
"""The scopes that a key can have besides using its jobs."""


def ids_in_file(settings: Settings) -> frozenset[str]:
    """The keys of the configuration file: found once for all the keys of a list."""
    return frozenset(key.id for key in settings.keys)


def facts_of(
    record: KeyRecord,
    settings: Settings,
    now: float,
    money: Callable[[int], Any],
    in_file: Container[str] | None = None,
) -> dict[str, Any]:
    """All that is shown of a key; `money` formats a sum of millionths, `now` is in seconds since the epoch.

    `in_file` are the `ids_in_file`, for one of many.
    """
    return {
        "id": record.id,
        "state": _state(record, settings, now, ids_in_file(settings) if in_file is None else in_file),
        "profile": record.profile,
        "owner": record.owner,
        "scopes": list(record.scopes),
        "networks": list(map(str, record.networks)),
        "limits": limits_as_written(record.limits, money),
        "created_at": moment(record.created_at),
        "expires_at": maybe_moment(record.expires_at),
        "disabled_at": maybe_moment(record.disabled_at),
        "generations": [_generation(found, record.expires_at, now) for found in record.generations],
    }


def limits_as_written(limits: Mapping[str, Any], money: Callable[[int], Any]) -> dict[str, Any]:
    """A key's overrides of its profile's limits, as the configuration writes them; sizes in bytes."""
    written = dict(limits)
    if "needs_page_range" in written:
        written["page_range"] = "required" if written.pop("needs_page_range") else "optional"
    if written.get("spend_per_month") is not None:
        written["spend_per_month"] = money(written["spend_per_month"])
    if "body_limit" in written:
        written["body_limit"] = f"{written['body_limit']}B"
    return dict(sorted(written.items()))


def _state(record: KeyRecord, settings: Settings, now: float, in_file: Container[str]) -> str:
    if record.id in in_file:
        return "in the file, too"
    if record.unreadable:
        return "unreadable"
    if record.profile not in settings.profiles:
        return "without a profile"
    if record.disabled_at is not None:
        return "disabled"
    if record.expires_at is not None and record.expires_at <= now:
        return "expired"
    return "live" if any(found.is_live(now) for found in record.generations) else "without a secret"


def _generation(found: Generation, expires_at: int | None, now: float) -> dict[str, Any]:
    end = min((at for at in (found.not_after, expires_at) if at is not None), default=None)
    is_over = end is not None and end <= now
    return {
        "generation": found.number,
        "state": "revoked" if found.revoked_at is not None else "ended" if is_over else "live",
        "created_at": moment(found.created_at),
        "live_until": maybe_moment(end),
        "revoked_at": maybe_moment(found.revoked_at),
        "last_used_at": maybe_moment(found.last_used_at),
    }


def idle_scopes(scopes: Iterable[str]) -> list[str]:
    """Scopes without any effect: probably misspelt."""
    return sorted(set(scopes) - SCOPES)
