"""The output of `gateway refusals`."""

import time
from pathlib import Path
from typing import Any, Final

from gateway.cli.output import answer
from gateway.cli.session import Session, read_ledger
from gateway.cli.table import show_table
from gateway.cli.unknown_key import say_if_unknown
from gateway.cli.words import away, why_of
from gateway.ledger.refusals import RefusalRow, latest
from gateway.units import moment

_LISTED: Final = ("request_id", "at", "status", "why", "key", "client", "route", "requests", "detail")

_NONE: Final = (
    "Nothing of this was refused or failed since then. A running gateway notes what is within some seconds, and the "
    "ledger keeps it for a day; the changes of keys are in gateway audit."
)


def list_refusals(config: Path, since: float, key_id: str | None, limit: int) -> None:
    """Prints the latest; `since` is in seconds since the epoch."""

    async def work(session: Session) -> list[RefusalRow]:
        found = await session.ledger.read(lambda c: latest(c, limit, since, key_id))
        if not found:
            await say_if_unknown(session, key_id)
        return found

    rows = read_ledger(config, work)
    views = list(map(_view, rows))
    now = time.time()
    cells = [[_cell(view, name, now) for name in _LISTED] for view in views]
    headings = [name.replace("_", " ") for name in _LISTED]
    answer(views, lambda: show_table(headings, cells, frozenset({"status", "requests"}), none=_NONE))


def _cell(view: dict[str, Any], name: str, now: float) -> object:
    if name == "why":
        return why_of(view["reason"], view["why"])
    return away(view["at"], now) if name == "at" else view[name]


def _view(row: RefusalRow) -> dict[str, Any]:
    fields = row._asdict()
    return {
        **{name: fields[name] for name in ("request_id", "requests", "status", "reason", "why", "method", "route")},
        "at": moment(row.at),
        "key": row.key_id,
        "client": row.client,
        "detail": row.detail,
    }
