"""The output of `gateway keys list`, `show` and `audit`; they change nothing."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.auth.keyring import profile_for
from gateway.cli.key_view import View, configured_view, ledger_view
from gateway.cli.output import answer, tell
from gateway.cli.session import Session, look
from gateway.cli.table import printable, show_table
from gateway.cli.times import iso
from gateway.config.compile import compile_overrides, compile_settings
from gateway.ledger.accounts import standing_of
from gateway.ledger.audit import recorded
from gateway.ledger.usage import GrantRow, grants_of
from gateway.limits.prices import MILLION
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.report import limits_report
from gateway.model.identity import Profile

_NOTED_EVERY: Final = 10
_LISTED: Final = ("id", "source", "state", "profile", "owner", "scopes", "live secrets", "expires", "last used")


class _Found(NamedTuple):
    """A key and its account."""

    view: View
    profile: Profile | None
    standing: AccountCounts
    grants: Sequence[GrantRow]
    now: float


def list_keys(config: Path) -> None:
    """Prints all keys, those of the configuration first."""
    views = look(config, _all)
    answer(views, lambda: show_table(_LISTED, [_listed(view) for view in views]))


def show_key(config: Path, key_id: str) -> None:
    """Prints one key and the state of its account."""
    found = look(config, lambda session: _one(session, key_id))
    limits = limits_report(found.profile, found.standing, found.now) if found.profile else None
    usage = {"day": _used(found.standing.day), "month": _used(found.standing.month)}
    grants = [{"pages": grant.pages, "until": iso(grant.until)} for grant in found.grants]
    account = {"granted_pages": found.standing.granted, "grants": grants, "usage": usage, "limits": limits}
    noted = {"last_used_is_noted_every_seconds": _NOTED_EVERY}
    answer({**found.view, **noted, "account": account}, lambda: _print(found, limits))


def _print(found: _Found, limits: dict[str, Any] | None) -> None:
    tell(*_described(found))
    if limits is not None:
        tell("")
        show_table(*limit_rows(limits))


def show_audit(config: Path, key_id: str | None) -> None:
    """Prints the latest changes, the newest first."""
    found = look(config, lambda session: session.ledger.read(lambda c: recorded(c, of=key_id, changes_only=True)))
    rows = [{"id": number, **entry._asdict(), "at": iso(entry.at)} for number, entry in found]
    names = ("at", "actor", "action", "subject", "detail")
    cells = [[*(row[name] for name in names[:-1]), json.dumps(row["detail"])] for row in rows]
    answer(rows, lambda: show_table(names, cells))


def limit_rows(limits: dict[str, Any]) -> tuple[list[str], list[list[object]], frozenset[str]]:
    """Limits as a table: headings, rows, and the names of the numeric columns."""
    numbers = ["limit", "used", "remaining"]
    headings = ["limit of", *numbers, "begins anew"]
    rows = [
        [name, *(row.get(number) for number in numbers), row.get("resets_at")] for name, row in sorted(limits.items())
    ]
    return headings, rows, frozenset(numbers)


async def _all(session: Session) -> list[View]:
    now = session.wall()
    records = await session.keys.list()
    configured = [configured_view(key, now) for key in session.settings.keys]
    return [*configured, *(ledger_view(record, session.settings, now) for record in records)]


async def _one(session: Session, key_id: str) -> _Found:
    now, settings = session.wall(), session.settings
    profiles, account = compile_settings(settings).profiles, f"key:{key_id}"
    for key in settings.keys:
        if key.id == key_id:
            standing, grants = await session.ledger.read(
                lambda c: (standing_of(c, account, now), grants_of(c, account, now))
            )
            profile = replace(profiles[key.profile], **compile_overrides(key.limits))
            return _Found(configured_view(key, now), profile, standing, grants, now)
    record, standing, granted = await session.keys.show(key_id)
    return _Found(ledger_view(record, settings, now), profile_for(record, profiles), standing, granted, now)


def _listed(view: View) -> list[object]:
    live = [str(entry["generation"]) for entry in view["generations"] if entry["state"] == "live"]
    secrets = "-" if view["source"] == "file" else " ".join(f"#{number}" for number in live) or "none"
    known = (view[name] for name in ("id", "source", "state", "profile", "owner"))
    return [*known, " ".join(view["scopes"]) or None, secrets, view["expires_at"], view["last_used_at"]]


def _described(found: _Found) -> list[str]:
    view = found.view
    facts = {
        "key": f"{view['id']} ({'of the configuration' if view['source'] == 'file' else 'of the ledger'})",
        "state": view["state"],
        "profile": view["profile"],
        "owner": view["owner"],
        "scopes": " ".join(view["scopes"]) or "none",
        "networks": " ".join(view["networks"]) or "any that network.allow has",
        "own limits": " ".join(f"{name}={_text(value)}" for name, value in view["limits"].items()) or "none",
        "made": view["created_at"],
        "expires": view["expires_at"] or "never",
        "disabled": view["disabled_at"],
        "grants": ", ".join(f"{grant.pages} pages until {iso(grant.until)}" for grant in found.grants) or None,
    }
    lines = [f"{name:<11} {printable(str(value))}" for name, value in facts.items() if value is not None]
    return [*lines, *_secrets(view)]


def _secrets(view: View) -> list[str]:
    if view["source"] == "file":
        return ["secret      in the configuration; when it was last used is not noted"]
    lines = [
        f"secret {entry['generation']:<4} {entry['state']}, made {entry['created_at']}, {_end(entry)}, "
        f"last used {entry['last_used_at'] or 'never'}"
        for entry in view["generations"]
    ]
    return [*lines, f"            (a running gateway notes last uses every {_NOTED_EVERY} s)"]


def _end(entry: View) -> str:
    if entry["revoked_at"]:
        return f"revoked {entry['revoked_at']}"
    return f"until {entry['live_until']}" if entry["live_until"] else "without an end"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _used(used: Used) -> dict[str, Any]:
    return {"requests": used.requests, "pages": used.pages, "spend": used.spend / MILLION}
