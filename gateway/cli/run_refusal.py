"""The output of `gateway explain --request-id`: what was noted of a request of the last day."""

import time
from pathlib import Path
from typing import Any, Final

from gateway.admin.command_for_refusal import help_by
from gateway.admin.troubleshooting import container_of, upstream_of
from gateway.cli.container_now import container_now, in_words
from gateway.cli.output import answer, fail
from gateway.cli.session import Session, read_ledger
from gateway.cli.table import printable, show_facts
from gateway.cli.words import at
from gateway.config.settings import Settings
from gateway.ledger.refusals import RefusalRow, find_refusal
from gateway.model.meanings import meaning_of
from gateway.model.reasons import VERDICTS, Reason, Source, title_of
from gateway.units import moment

_NONE: Final = (
    "no refused or failed request {} is known: it is older than a day or younger than some seconds, it was answered "
    "well, or the gateway had too many to note each (see the log)"
)
_LOOK_AT: Final = {
    "client": "the client: {means}{help}",
    "gateway": "the gateway: see its log for this id, and /readyz",
    "upstream": "the container{where}, or the way to it: see its own log, and `gateway check --live`",
}
_LEDGER: Final = (
    "the ledger: `ledger is unavailable` in the gateway's log of that moment has a `why`, which docs/ledger.md "
    "(While it is away) explains; `gateway status` tells whether it is back"
)


def show_refusal(config: Path, request_id: str) -> None:
    """Prints it, or fails when there is none."""

    async def work(session: Session) -> dict[str, Any] | None:
        row = await session.ledger.read(lambda c: find_refusal(c, request_id))
        if row is None:
            return None
        name = upstream_of(row.route, session.settings) if _source_of(row) == Source.UPSTREAM else None
        now = None if name is None else await container_now(session, config, name)
        return _facts(row, session.settings) | {"container_now": now}

    document = read_ledger(config, work)
    if document is None:
        fail(_NONE.format(printable(request_id)))
    answer(document, lambda: _print(document, time.time()))


def _print(document: dict[str, Any], now: float) -> None:
    container = document["container_now"]
    facts = {
        **document,
        "at": at(document["at"], now),
        "container_now": None if container is None else in_words(container, now),
    }
    show_facts({name.replace("_", " "): value for name, value in facts.items()})


def _source_of(row: RefusalRow) -> Source:
    verdict = VERDICTS.get(Reason(row.reason)) if row.reason in set(Reason) else None
    return verdict.source if verdict is not None else Source.UPSTREAM  # what was forwarded is the container's


def _facts(row: RefusalRow, settings: Settings) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "at": moment(row.at),
        "status": row.status,
        "reason": row.reason,
        "title": title_of(row.reason, row.title),
        "detail": row.detail,
        "why": row.why,
        "means": meaning_of(row.why, row.reason),
        "method": row.method,
        "route": row.route,
        "key": row.key_id,
        "client": row.client,
        "look_at": _LEDGER
        if row.reason == Reason.LEDGER_UNAVAILABLE
        else _LOOK_AT[_source_of(row)].format(**_help_words(row, settings)),
    }


def _help_words(row: RefusalRow, settings: Settings) -> dict[str, str]:
    """The words that _LOOK_AT's texts leave open."""
    means = meaning_of(row.why, row.reason)
    told = help_by(row.why, row.reason, row.key_id, row.detail)
    container = container_of(row.route, settings)
    return {
        "means": means or "See docs/errors.md for the reason, and `gateway explain` with the same request.",
        "help": f" {told}" if told else "",
        "where": f" {container}" if container else "",
    }
