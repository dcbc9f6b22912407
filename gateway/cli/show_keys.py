"""The output of `gateway keys list`, `show` and `audit`; they change nothing."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.auth.keyring import profile_for
from gateway.cli.key_view import View, configured_view, ledger_view
from gateway.cli.output import answer, print_lines
from gateway.cli.run_audit import detail_in_words, with_moments
from gateway.cli.session import Session, read_ledger
from gateway.cli.table import show_facts, show_table, shown
from gateway.cli.words import Shown, at, away, in_bytes, pages_of, size, spend
from gateway.config.compile import compile_overrides, compile_settings
from gateway.keys.view import ids_in_file
from gateway.ledger.accounts import read_counts
from gateway.ledger.audit import recorded
from gateway.ledger.usage import GrantRow, grants_of
from gateway.limits.prices import MILLION
from gateway.limits.quotas import AccountCounts
from gateway.limits.report import limits_report, used_report
from gateway.model.account_names import key_account
from gateway.model.identity import Profile
from gateway.units import moment

_NOTED_EVERY: Final = 10
_LISTED: Final = ("id", "source", "state", "profile", "owner", "scopes", "live secrets", "expires", "last used")

_NO_KEYS: Final = "No keys yet: gateway keys create ID makes one and prints its secret."
_NO_CHANGES: Final = "No such changes: what gateway keys create, rotate, revoke and others do to a key is listed."


class ShownKey(NamedTuple):
    """A key and its account."""

    view: View
    profile: Profile | None
    counts: AccountCounts
    grants: Sequence[GrantRow]
    now: float
    currency: str | None


def list_keys(config: Path) -> None:
    """Prints all keys, those of the configuration first."""
    views = read_ledger(config, _all)
    answer(views, lambda: show_table(_LISTED, [_listed(view) for view in views], none=_NO_KEYS))


def show_key(config: Path, key_id: str) -> None:
    """Prints one key and the state of its account."""
    found = read_ledger(config, lambda session: shown_key(session, key_id))
    limits = limits_report(found.profile, found.counts, found.now) if found.profile else None
    usage = {"day": used_report(found.counts.day), "month": used_report(found.counts.month)}
    grants = [{"pages": grant.pages, "until": moment(grant.until)} for grant in found.grants]
    account = {"granted_pages": found.counts.granted, "grants": grants, "usage": usage, "limits": limits}
    noted = {"last_used_is_noted_every_seconds": _NOTED_EVERY}
    answer({**found.view, **noted, "account": account}, lambda: _print(found, limits))


def _print(found: ShownKey, limits: dict[str, Any] | None) -> None:
    show_facts(_described(found))
    print_lines(*_secrets(found.view))
    if limits is not None:
        print_lines("")
        show_table(*limit_rows(limits, found.now, found.currency))


def show_audit(config: Path, key_id: str | None) -> None:
    """Prints the latest changes, the newest first."""
    found = read_ledger(config, lambda session: session.ledger.read(lambda c: recorded(c, of=key_id, action="key.")))
    rows = [{"id": number, **entry._asdict(), "at": moment(entry.at)} for number, entry in found]
    names = ("at", "actor", "action", "subject", "detail")
    cells = [[at(row["at"]), *(row[name] for name in names[1:-1]), _detail(row["detail"])] for row in rows]
    answer(rows, lambda: show_table(names, cells, none=_NO_CHANGES))


def limit_rows(
    limits: dict[str, Any], now: float, currency: str | None
) -> tuple[list[str], list[list[object]], frozenset[str]]:
    """Limits as a table: headings, rows, and the names of the numeric columns."""
    numbers = ["limit", "used", "remaining"]
    headings = ["limit of", *numbers, "resets"]
    rows = [
        [name, *(_counted(name, row.get(number), currency) for number in numbers), away(row.get("resets_at"), now)]
        for name, row in sorted(limits.items())
    ]
    return headings, rows, frozenset(numbers)


def _counted(name: str, value: float | None, currency: str | None) -> object:
    if value is None:
        return None
    if name == "body_limit":
        return size(int(value))
    return Shown(value, spend(round(value * MILLION), currency).words) if name == "spend_per_month" else value


def _detail(detail: Any) -> Shown:
    return Shown(json.dumps(with_moments(detail)), detail_in_words(detail))


async def _all(session: Session) -> list[View]:
    now = session.wall()
    records = await session.keys.list()
    configured = [configured_view(key, now) for key in session.settings.keys]
    view = partial(ledger_view, settings=session.settings, now=now, knows_profiles=session.knows_profiles)
    view = partial(view, in_file=ids_in_file(session.settings))
    return [*configured, *(view(record) for record in records)]


async def shown_key(session: Session, key_id: str) -> ShownKey:
    """A key of the file or of the ledger, with its account; its limits, where profiles are known."""
    now, settings = session.wall(), session.settings
    profiles = compile_settings(settings).profiles if session.knows_profiles else {}
    account = key_account(key_id)
    for key in settings.keys:
        if key.id == key_id:
            counts, grants = await session.ledger.read(
                lambda c: (read_counts(c, account, now), grants_of(c, account, now))
            )
            profile = profiles.get(key.profile)
            if profile is not None:
                profile = replace(profile, **compile_overrides(key.limits))
            return ShownKey(configured_view(key, now), profile, counts, grants, now, settings.prices.currency)
    record, counts, granted = await session.keys.show(key_id)
    view = ledger_view(record, settings, now, knows_profiles=session.knows_profiles)
    return ShownKey(view, profile_for(record, profiles), counts, granted, now, settings.prices.currency)


def _listed(view: View) -> list[object]:
    live = [str(entry["generation"]) for entry in view["generations"] if entry["state"] == "live"]
    secrets = "-" if view["source"] == "file" else " ".join(f"#{number}" for number in live) or "none"
    known = (view[name] for name in ("id", "source", "state", "profile", "owner"))
    return [*known, " ".join(view["scopes"]) or None, secrets, at(view["expires_at"]), at(view["last_used_at"])]


def _described(found: ShownKey) -> dict[str, object]:
    view, now = found.view, found.now
    return {
        "key": f"{view['id']} ({'of the configuration' if view['source'] == 'file' else 'of the ledger'})",
        "state": view["state"],
        "profile": view["profile"],
        "owner": view["owner"],
        "scopes": " ".join(view["scopes"]) or "none",
        "networks": " ".join(view["networks"]) or "any that network.allow has",
        "own limits": " ".join(f"{name}={_text(name, value)}" for name, value in view["limits"].items()) or "none",
        "made": at(view["created_at"]),
        "expires": at(view["expires_at"], now) or "never",
        "disabled": at(view["disabled_at"], now),
        "grants": ", ".join(_granted(grant, now) for grant in found.grants) or None,
    }


def _granted(grant: GrantRow, now: float) -> str:
    return f"{pages_of(grant.pages)} until {shown(at(moment(grant.until), now))}"


def _secrets(view: View) -> list[str]:
    if view["source"] == "file":
        return ["secret      in the configuration; when it was last used is not noted"]
    lines = [
        f"secret {entry['generation']:<4} {entry['state']}, made {shown(at(entry['created_at']))}, {_end(entry)}, "
        f"last used {shown(at(entry['last_used_at']) or 'never')}"
        for entry in view["generations"]
    ]
    return [*lines, f"            (a running gateway notes last uses every {_NOTED_EVERY} s)"]


def _end(entry: View) -> str:
    if entry["revoked_at"]:
        return f"revoked {shown(at(entry['revoked_at']))}"
    return f"until {shown(at(entry['live_until']))}" if entry["live_until"] else "without an end"


def _text(name: str, value: Any) -> str:
    if name == "body_limit":
        return shown(Shown(value, in_bytes(int(str(value).removesuffix("B")))))
    return "none" if value is None else str(value)
