"""A key as `gateway keys list` and `show` tell of it: plain values, times in ISO 8601, never a secret. Pure.

Keys of the configuration and of the ledger have the same form; `source` says which is which.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.auth.keyring import Generation, KeyRecord
from gateway.commands.moments import iso
from gateway.limits.prices import MILLION
from gateway.settings import KeySettings, Settings

View = dict[str, Any]


def money(millionths: int) -> str:
    """A sum of millionths of a currency, exactly, with two decimals or more."""
    whole, _, rest = f"{Decimal(millionths) / MILLION:.6f}".partition(".")
    return f"{whole}.{rest[:2]}{rest[2:].rstrip('0')}"


def as_written(limits: Mapping[str, Any]) -> View:
    """Overrides as the configuration and --limit write them; sizes in bytes."""
    written: View = dict(limits)
    if "needs_page_range" in written:
        written["page_range"] = "required" if written.pop("needs_page_range") else "optional"
    if written.get("spend_per_month") is not None:
        written["spend_per_month"] = money(written["spend_per_month"])
    if "body_limit" in written:
        written["body_limit"] = f"{written['body_limit']}B"
    return dict(sorted(written.items()))


def configured_view(key: KeySettings, now: float) -> View:
    """A key of the configuration."""
    ends = key.expires.timestamp() if key.expires else None
    state = "disabled" if key.disabled else "expired" if ends is not None and ends <= now else "live"
    limits = {name: None if value is None else _plain(value) for name, value in key.limits.given().items()}
    return {
        "id": key.id,
        "source": "file",
        "state": state,
        "profile": key.profile,
        "owner": key.owner or key.id,
        "scopes": list(key.scopes),
        "networks": [str(network) for network in key.networks],
        "limits": limits,
        "created_at": None,
        "expires_at": iso(ends),
        "disabled_at": None,
        "last_used_at": None,
        "generations": [],
    }


def ledger_view(record: KeyRecord, settings: Settings, now: float) -> View:
    """A key of the ledger."""
    used = [found.last_used_at for found in record.generations if found.last_used_at is not None]
    return {
        "id": record.id,
        "source": "ledger",
        "state": _state(record, settings, now),
        "profile": record.profile,
        "owner": record.owner,
        "scopes": list(record.scopes),
        "networks": [str(network) for network in record.networks],
        "limits": as_written(record.limits),
        "created_at": iso(record.created_at),
        "expires_at": iso(record.expires_at),
        "disabled_at": iso(record.disabled_at),
        "last_used_at": iso(max(used, default=None)),
        "generations": [_generation(found, record.expires_at, now) for found in record.generations],
    }


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _state(record: KeyRecord, settings: Settings, now: float) -> str:
    if record.id in {key.id for key in settings.keys}:
        return "in the file, too"
    if record.profile not in settings.profiles:
        return "without a profile"
    if record.disabled_at is not None:
        return "disabled"
    if record.expires_at is not None and record.expires_at <= now:
        return "expired"
    return "live" if any(found.is_live(now) for found in record.generations) else "without a secret"


def _generation(generation: Generation, expires_at: int | None, now: float) -> View:
    ends = [end for end in (generation.not_after, expires_at) if end is not None]
    is_over = bool(ends) and min(ends) <= now
    return {
        "generation": generation.number,
        "state": "revoked" if generation.revoked_at is not None else "ended" if is_over else "live",
        "created_at": iso(generation.created_at),
        "live_until": iso(min(ends, default=None)),
        "revoked_at": iso(generation.revoked_at),
        "last_used_at": iso(generation.last_used_at),
    }
