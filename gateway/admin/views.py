"""Makes answers of the ledger's own records: their fields, times and units. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.admin import answers
from gateway.auth.keyring import Generation, KeyRecord
from gateway.ledger.usage import UsedOnDay
from gateway.limits.prices import MILLION
from gateway.limits.standing import Used
from gateway.settings import Settings
from gateway.wantedkey import LATEST

_ACCOUNT_OF_KEY: Final = "key:"


def moment(seconds: float) -> str:
    """A moment in seconds since the epoch, as it is written."""
    return f"{datetime.fromtimestamp(max(0, min(seconds, LATEST)), UTC):%Y-%m-%dT%H:%M:%SZ}"


def day(period: int) -> str:
    """A day such as 20261123, as it is written."""
    return f"{period // 10_000:04}-{period // 100 % 100:02}-{period % 100:02}"


def key_of(record: KeyRecord, settings: Settings, now: float) -> dict[str, Any]:
    """The fields of answers.Key."""
    return {
        "id": record.id,
        "state": _state(record, settings, now),
        "profile": record.profile,
        "owner": record.owner,
        "scopes": list(record.scopes),
        "networks": list(map(str, record.networks)),
        "limits": _as_sent(record.limits),
        "created_at": moment(record.created_at),
        "expires_at": _maybe(record.expires_at),
        "disabled_at": _maybe(record.disabled_at),
        "generations": [_generation(found, record.expires_at, now) for found in record.generations],
    }


def forgotten(key_id: str, used: Used) -> answers.Forgotten:
    """What a reset forgot."""
    return answers.Forgotten(id=key_id, requests=used.requests, pages=used.pages, spend=used.spend / MILLION)


def usage_of(row: UsedOnDay) -> answers.UsageOfDay:
    """One row of the report."""
    key = row.account.removeprefix(_ACCOUNT_OF_KEY) if row.account.startswith(_ACCOUNT_OF_KEY) else None
    return answers.UsageOfDay(
        account=row.account,
        key=key,
        day=day(row.day),
        requests=row.requests,
        failed=row.failed,
        pages=row.pages,
        refunded=row.refunded,
        spend=row.spend / MILLION,
    )


def change_of(row: Mapping[str, Any]) -> answers.Change:
    """One row of the audit."""
    return answers.Change(
        at=moment(row["at"]),
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        detail=row["detail"],
    )


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


def _generation(found: Generation, expires_at: int | None, now: float) -> answers.Generation:
    end = min((at for at in (found.not_after, expires_at) if at is not None), default=None)
    is_over = end is not None and end <= now
    return answers.Generation(
        generation=found.number,
        state="revoked" if found.revoked_at is not None else "ended" if is_over else "live",
        created_at=moment(found.created_at),
        live_until=_maybe(end),
        revoked_at=_maybe(found.revoked_at),
        last_used_at=_maybe(found.last_used_at),
    )


def _as_sent(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Limits in the units that they are asked for in."""
    sent = dict(limits)
    if "body_limit" in sent:
        sent["body_limit"] = f"{sent['body_limit']}B"
    if sent.get("spend_per_month") is not None:
        sent["spend_per_month"] /= MILLION
    if "needs_page_range" in sent:
        sent["page_range"] = "required" if sent.pop("needs_page_range") else "optional"
    return sent


def _maybe(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)
