"""Converts the ledger's records into answers: their fields, and sums in the currency of the prices. Pure."""

from collections.abc import Container
from typing import Any

from gateway.admin import answer, caller_answers, key_answers
from gateway.config.settings import Settings
from gateway.config.settings.access import KeySettings
from gateway.keys.view import facts_of
from gateway.ledger.usage import GrantEnds, GrantRow, UsedByMode, UsedOnDay
from gateway.limits.prices import MILLION
from gateway.limits.quotas import Used
from gateway.model.account_names import key_id_of
from gateway.model.audit import Entry
from gateway.model.keys import KeyRecord
from gateway.units import day, maybe_moment, moment


def key_fields(
    record: KeyRecord, settings: Settings, now: float, in_file: Container[str] | None = None
) -> dict[str, Any]:
    """The fields of answers.Key; for one of many `in_file` are the `ids_in_file`."""
    return facts_of(record, settings, now, _in_currency, in_file)


def configured_fields(key: KeySettings, now: float) -> dict[str, Any]:
    """What the configuration says of a key."""
    ends = key.expires.timestamp() if key.expires else None
    return {
        "id": key.id,
        "state": "disabled" if key.disabled else "expired" if ends is not None and ends <= now else "live",
        "profile": key.profile,
        "owner": key.owner or key.id,
        "scopes": list(key.scopes),
        "networks": list(map(str, key.networks)),
        "expires_at": maybe_moment(ends),
    }


def reset_answer(key_id: str, used: Used) -> key_answers.Forgotten:
    """What a reset cleared."""
    return key_answers.Forgotten(id=key_id, **amount(used))


def amount(used: Used) -> dict[str, Any]:
    """What was used in a window."""
    return {"requests": used.requests, "pages": used.pages, "spend": _in_currency(used.spend)}


def granted(grant: GrantRow) -> answer.GrantedUntil:
    """One grant of a key."""
    return answer.GrantedUntil(id=grant.id, pages=grant.pages, until=moment(grant.until))


def granted_until(ends: GrantEnds | None) -> dict[str, Any]:
    """When the first and the last grant of an account end."""
    first, last = ends or (None, None)
    return {"granted_until": maybe_moment(first), "granted_last_until": maybe_moment(last)}


def usage_of(row: UsedOnDay | UsedByMode) -> caller_answers.UsageOfDay:
    """One row of the report."""
    return caller_answers.UsageOfDay(
        account=row.account,
        key=key_id_of(row.account),
        day=day(row.day),
        mode=row.mode if isinstance(row, UsedByMode) else None,
        requests=row.requests,
        failed=row.failed,
        pages=row.pages,
        refunded=row.refunded,
        spend=_in_currency(row.spend),
    )


def change_of(entry: Entry) -> caller_answers.Change:
    """One record of the audit trail."""
    return caller_answers.Change(
        at=moment(entry.at),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail=dict(entry.detail),
    )


def _in_currency(millionths: int) -> float:
    return millionths / MILLION
