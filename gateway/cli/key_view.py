"""A key as `gateway keys list` and `show` print it: plain values, times in ISO 8601, never a secret. Pure.

Keys of the configuration and of the ledger have the same form; `source` says where a key comes from.
"""

from collections.abc import Container
from decimal import Decimal
from typing import Any

from gateway.cli.words import money
from gateway.config.settings import KeySettings, ProfileSettings, Settings
from gateway.keys.view import facts_of
from gateway.model.keys import KeyRecord
from gateway.units import maybe_moment

View = dict[str, Any]


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
        "expires_at": maybe_moment(ends),
        "disabled_at": None,
        "generations": [],
        "last_used_at": None,
    }


def ledger_view(
    record: KeyRecord,
    settings: Settings,
    now: float,
    *,
    knows_profiles: bool = True,
    in_file: Container[str] | None = None,
) -> View:
    """A key of the ledger; where profiles are not known, its own is taken to be there.

    `in_file`: as in `facts_of`.
    """
    if not knows_profiles:
        settings = settings.model_copy(update={"profiles": {record.profile: ProfileSettings()}})
    used = [found.last_used_at for found in record.generations if found.last_used_at is not None]
    return {
        "id": record.id,
        "source": "ledger",
        **facts_of(record, settings, now, money, in_file),
        "last_used_at": maybe_moment(max(used, default=None)),
    }


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value
