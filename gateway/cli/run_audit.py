"""The output of `gateway audit`. JSON holds all records and is written by pages: a long trail needs little memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.cli.output import say, tell_piece, wants_json
from gateway.cli.session import Session, look
from gateway.cli.table import show_table
from gateway.cli.times import iso
from gateway.ledger.audit import Recorded, recorded

_PAGE: Final = 1000
_MAX_ROWS: Final = 10_000
_HEADINGS: Final = ("at", "actor", "action", "subject", "detail")
_Take = Callable[[list[Recorded]], None]


def tell_audit(config: Path, since: float, of: str | None) -> None:
    """Prints all records since a moment, in seconds since the epoch; `of` is a key's id or an owner."""
    if wants_json():
        told = _told_as_json()
        look(config, lambda session: _each_page(session, since, of, told))
        tell_piece("\n]\n")
        return
    rows = look(
        config, lambda session: session.ledger.read(lambda c: recorded(c, since=since, of=of, most=_MAX_ROWS + 1))
    )
    show_table(_HEADINGS, [_cells(row) for row in rows[:_MAX_ROWS]])
    if len(rows) > _MAX_ROWS:
        say(f"These are the latest {_MAX_ROWS}; --json tells all.")


async def _each_page(session: Session, since: float, of: str | None, take: _Take) -> None:
    before: Recorded | None = None
    while True:
        page = await session.ledger.read(
            lambda c, before=before: recorded(c, since=since, of=of, most=_PAGE, before=before)  # type: ignore[misc]
        )
        take(page)
        if len(page) < _PAGE:
            return
        before = page[-1]


def _told_as_json() -> _Take:
    """Writes a JSON array, one record a line, as pages arrive."""
    before = "["

    def take(page: list[Recorded]) -> None:
        nonlocal before
        if not page and before == "[":
            tell_piece(before)
        for row in page:
            tell_piece(f"{before}\n  {json.dumps(_fields(row))}")
            before = ","

    return take


def _fields(row: Recorded) -> dict[str, Any]:
    return {"id": row.id, **row.entry._asdict(), "at": iso(row.entry.at)}


def _cells(row: Recorded) -> list[object]:
    entry = row.entry
    detail = " ".join(f"{name}={_text(value)}" for name, value in entry.detail.items())
    return [iso(entry.at), entry.actor, entry.action, entry.subject, detail or None]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
