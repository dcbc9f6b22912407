"""The output of `gateway jobs list` and `show`; they change nothing."""

import time
from pathlib import Path
from typing import Any, Final

from gateway.cli.output import answer, fail
from gateway.cli.session import read_ledger
from gateway.cli.table import printable, show_facts, show_table
from gateway.cli.words import at
from gateway.jobs.view import job_facts
from gateway.ledger import listings as joblist
from gateway.ledger.schema import JobState
from gateway.model.account_names import qualified

_LISTED: Final = ("request_id", "upstream", "owner", "key", "state", "created_at", "ended_at", "expires_at")

_KEPT: Final = "Those that are gone have --state gone, while their records are kept."
_NONE: Final = f"No jobs yet: each submit that the container accepts is one. {_KEPT}"


def list_jobs(config: Path, owner: str | None, state: str | None, limit: int) -> None:
    """Prints the latest jobs."""
    whose = None if owner is None else qualified(owner)
    which = None if state is None else JobState[state.upper()]
    rows = read_ledger(
        config, lambda session: session.ledger.report(lambda c: joblist.list_jobs(c, whose, which, limit))
    )
    views = list(map(job_facts, rows))
    headings = [name.removesuffix("_at").replace("_", " ") for name in _LISTED]
    none = _NONE if owner is state is None else f"None of the jobs in the ledger is so. {_KEPT}"
    answer(views, lambda: show_table([*headings, "pages", "webhook"], list(map(_cells, views)), none=none))


def show_job(config: Path, request_id: str, upstream: str | None) -> None:
    """Prints one job."""
    rows = read_ledger(
        config, lambda session: session.ledger.read(lambda c: joblist.jobs_with_id(c, request_id, upstream))
    )
    if not rows:
        where = "" if upstream is None else f" of the upstream {printable(upstream)}"
        fail(f"there is no job {printable(request_id)}{where} in the ledger")
    if len(rows) > 1:
        names = ", ".join(row.upstream for row in rows)
        fail(f"there are jobs {printable(request_id)} of {names}: say which with --upstream")
    view = job_facts(rows[0])
    answer(view, lambda: show_facts(_described(view, time.time())))


def _cells(view: dict[str, Any]) -> list[object]:
    webhook = view["webhook"]
    return [*(_cell(view, name) for name in _LISTED), _pages(view), None if webhook is None else webhook["state"]]


def _cell(view: dict[str, Any], name: str) -> object:
    return at(view[name]) if name.endswith("_at") else view[name]


def _described(view: dict[str, Any], now: float) -> dict[str, object]:
    webhook = view["webhook"]
    return {
        **{name.replace("_", " "): view[name] for name in ("request_id", "upstream", "owner", "account", "key")},
        "state": view["state"],
        "created": at(view["created_at"], now),
        "ended": at(view["ended_at"], now),
        "expires": at(view["expires_at"], now),
        "pages": _pages(view),
        "check path": view["check_path"],
        "webhook": None if webhook is None else _webhook(webhook),
    }


def _pages(view: dict[str, Any]) -> str | None:
    return None if view["pages"] is None else f"{view['pages']} {view['pages_are']}"


def _webhook(webhook: dict[str, Any]) -> str:
    count = webhook["attempts"]
    attempts = f"{count} attempt{'' if count == 1 else 's'}"
    return f"{webhook['state']}, to {webhook['destination']}, {attempts}; its id is {webhook['id']}"
