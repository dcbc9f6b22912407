"""The output of `gateway audit`. JSON holds all records and is written by pages: a long trail needs little memory."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.cli.output import print_piece, say, wants_json
from gateway.cli.session import Session, read_ledger
from gateway.cli.table import show_table
from gateway.cli.unknown_key import say_if_unknown
from gateway.cli.words import Shown, at
from gateway.ledger.audit import AuditRecord, recorded
from gateway.units import moment

_PAGE: Final = 1000
MAX_ROWS: Final = 10_000
_HEADINGS: Final = ("at", "actor", "action", "subject", "detail")
_MOMENTS: Final = frozenset({"until", "previous_ends_at", "expires_at", "first_at"})
_NONE: Final = "Nothing of this is in the audit trail since then: --since 365d looks further back."
_Take = Callable[[list[AuditRecord]], None]


def show_trail(config: Path, since: float, of: str | None) -> None:
    """Prints all records since a moment, in seconds since the epoch; `of` is a key's id or an owner."""
    if wants_json():
        write = _json_writer()
        read_ledger(config, lambda session: _each_page(session, since, of, write))
        print_piece("\n]\n")
        return
    rows = read_ledger(config, lambda session: _some(session, since, of, MAX_ROWS + 1))
    show_table(_HEADINGS, [_cells(row) for row in rows[:MAX_ROWS]], none=_NONE)
    if len(rows) > MAX_ROWS:
        say(f"These are the latest {MAX_ROWS}; --json tells all.")


async def _some(session: Session, since: float, of: str | None, most: int) -> list[AuditRecord]:
    found = await session.ledger.read(lambda c: recorded(c, since=since, of=of, most=most))
    if not found:
        await say_if_unknown(session, of)
    return found


async def _each_page(session: Session, since: float, of: str | None, take: _Take) -> None:
    page = await _some(session, since, of, _PAGE)
    take(page)
    while len(page) == _PAGE:
        page = await session.ledger.read(
            lambda c, before=page[-1]: recorded(c, since=since, of=of, most=_PAGE, before=before)  # type: ignore[misc]
        )
        take(page)


def _json_writer() -> _Take:
    """Writes a JSON array, one record a line, as pages arrive."""
    before = "["

    def take(page: list[AuditRecord]) -> None:
        nonlocal before
        if not page and before == "[":
            print_piece(before)
        for row in page:
            print_piece(f"{before}\n  {json.dumps(_fields(row))}")
            before = ","

    return take


def _fields(row: AuditRecord) -> dict[str, Any]:
    return {"id": row.id, **row.entry._asdict(), "at": moment(row.entry.at)}


def _cells(row: AuditRecord) -> list[object]:
    entry = row.entry
    exact = " ".join(f"{name}={_text(value)}" for name, value in with_moments(entry.detail).items())
    detail = Shown(exact, detail_in_words(entry.detail)) if exact else None
    return [at(moment(entry.at)), entry.actor, entry.action, entry.subject, detail]


def with_moments(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says besides, its moments in ISO 8601; the record itself has seconds since the epoch."""
    return {name: moment(value) if _is_moment(name, value) else value for name, value in detail.items()}


def detail_in_words(detail: Mapping[str, Any]) -> str:
    """What a record says besides, its moments as people write them."""
    return " ".join(f"{name}={_words(name, value)}" for name, value in detail.items())


def _words(name: str, value: Any) -> str:
    found = at(moment(value)) if _is_moment(name, value) else None
    return _text(value) if found is None else found.words


def _is_moment(name: str, value: Any) -> bool:
    """A 0 says that there is none."""
    return name in _MOMENTS and isinstance(value, int | float) and bool(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
