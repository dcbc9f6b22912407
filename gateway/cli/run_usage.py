"""The output of `gateway usage`: rows by key and day, as a table, JSON or CSV.

A spreadsheet runs a cell that begins with = + - or @ as a formula, and token issuers choose the names of their
owners: such a cell gets an apostrophe in front (OWASP, "CSV Injection").
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.cli.output import answer, print_piece, say
from gateway.cli.session import Session, read_ledger
from gateway.cli.table import show_table
from gateway.cli.words import Shown, pages_of, spend
from gateway.ledger.keys import one_key
from gateway.ledger.lost import LostSum, sum_lost
from gateway.ledger.usage import UsedByMode, UsedOnDay, used_by_mode, used_since
from gateway.limits.prices import MILLION
from gateway.limits.windows import day_of
from gateway.model.account_names import ANYONE, key_id_of, qualified
from gateway.units import day

_COUNTED: Final = ("requests", "failed", "pages", "refunded", "spend")
_HEADINGS: Final = ("day", "key", *_COUNTED)
_WITH_MODE: Final = ("day", "key", "mode", *_COUNTED)
_UNKNOWN: Final = "(unknown)"
_Row = UsedOnDay | UsedByMode
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_NONE: Final = "Nothing was settled since then: a job is counted when its end was seen. What runs: gateway jobs list."
_NOBODY: Final = "(without a key)"


def show_usage(config: Path, key_id: str | None, since: float, *, by_mode: bool, is_csv: bool) -> None:
    """Prints the usage; `since` is in seconds since the epoch."""
    first = day_of(since).period
    rows, gone, currency = read_ledger(config, lambda session: _rows(session, key_id, first, by_mode=by_mode))
    if is_csv:
        print_piece(
            as_csv(rows, by_mode=by_mode).encode()
        )  # bytes: a text stream would replace RFC 4180's line ends by the platform's
        return
    document = {
        "since": day(first),
        "rows": list(map(_entry, rows)),
        "total": _total(rows),
        "currency": currency,
        "charged_without_an_answer": gone._asdict(),
    }
    answer(document, lambda: _print(rows, gone, currency, by_mode=by_mode))


def _print(rows: Sequence[_Row], gone: LostSum, currency: str | None, *, by_mode: bool) -> None:
    sums = [sum(getattr(row, name) for row in rows) for name in _COUNTED]
    total = ["total", *[""] * (2 if by_mode else 1), *sums[:-1], spend(sums[-1], currency)]
    show_table(
        _WITH_MODE if by_mode else _HEADINGS,
        [_cells(row, currency) for row in rows],
        frozenset(_COUNTED),
        total,
        none=_NONE,
    )
    if gone.jobs:
        jobs = "1 job" if gone.jobs == 1 else f"{gone.jobs} jobs"
        say(f"Of these, {jobs} with {pages_of(gone.pages)} had no answer: see gateway jobs list --lost.")


def as_csv(rows: Sequence[_Row], *, by_mode: bool = False) -> str:
    """CSV by RFC 4180: a heading, CRLF, quotes where needed; `by_mode` as the rows are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_WITH_MODE if by_mode else _HEADINGS)
    for row in rows:
        *named, spent = _cells(row)
        exact = spent.exact if isinstance(spent, Shown) else spent
        writer.writerow([*(_harmless(value) if isinstance(value, str) else value for value in named), exact])
    return text.getvalue()


async def _rows(
    session: Session, key_id: str | None, since: int, *, by_mode: bool
) -> tuple[Sequence[_Row], LostSum, str | None]:
    account = None if key_id is None else qualified(key_id)
    rows: Sequence[_Row] = await session.ledger.report(
        lambda c: used_by_mode(c, since, account) if by_mode else used_since(c, since, account)
    )
    is_known = key_id is None or ":" in key_id or key_id in {key.id for key in session.settings.keys}
    if not rows and not is_known:
        await session.ledger.read(lambda c: one_key(c, str(key_id)))  # raises when there is no such key
    gone = await session.ledger.report(lambda c: sum_lost(c, since, account))
    return rows, gone, session.settings.prices.currency


def _cells(row: _Row, currency: str | None = None) -> list[object]:
    name = _NOBODY if row.account == ANYONE else key_id_of(row.account) or row.account
    mode = [row.mode or _UNKNOWN] if isinstance(row, UsedByMode) else []
    return [day(row.day), name, *mode, row.requests, row.failed, row.pages, row.refunded, spend(row.spend, currency)]


def _entry(row: _Row) -> dict[str, Any]:
    counts = {name: getattr(row, name) for name in _COUNTED}
    mode = {"mode": row.mode} if isinstance(row, UsedByMode) else {}
    of = {"day": day(row.day), "key": key_id_of(row.account), "account": row.account}
    return {**of, **mode, **_in_currency(counts)}


def _total(rows: Sequence[_Row]) -> dict[str, Any]:
    return _in_currency({name: sum(getattr(row, name) for row in rows) for name in _COUNTED})


def _in_currency(counts: dict[str, int]) -> dict[str, Any]:
    return {**counts, "spend": counts["spend"] / MILLION}


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
