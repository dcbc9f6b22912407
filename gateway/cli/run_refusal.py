"""The output of `gateway explain --request-id`: what was noted of a request of the last day."""

import time
from pathlib import Path
from typing import Any, Final

from gateway.cli.output import answer, fail
from gateway.cli.session import look
from gateway.cli.table import printable, show_facts
from gateway.cli.words import at
from gateway.ledger.refusals import RefusalRow, named
from gateway.model.reasons import VERDICTS, Reason
from gateway.units import moment

_NONE: Final = (
    "no refused or failed request {} is known: it is older than a day or younger than some seconds, it was answered "
    "well, or the gateway had too many to note each (see the log)"
)
_BLAME: Final = {
    "client": "the client: see docs/errors.md for the reason, and `gateway explain` with the same request",
    "gateway": "the gateway: see its log for this id, and /readyz",
    "upstream": "the container, or the way to it: see its own log, and `gateway check --live`",
}


def tell_of_refusal(config: Path, request_id: str) -> None:
    """Prints it, or fails when there is none."""
    row = look(config, lambda session: session.ledger.read(lambda c: named(c, request_id)))
    if row is None:
        fail(_NONE.format(printable(request_id)))
    told = _facts(row)
    facts = {name.replace("_", " "): value for name, value in told.items()}
    answer(told, lambda: show_facts({**facts, "at": at(told["at"], time.time())}))


def _facts(row: RefusalRow) -> dict[str, Any]:
    verdict = VERDICTS.get(Reason(row.reason)) if row.reason in set(Reason) else None
    source = verdict.source if verdict is not None else "upstream"  # what was forwarded is the container's
    return {
        "request_id": row.request_id,
        "at": moment(row.at),
        "status": row.status,
        "reason": row.reason,
        "title": None if verdict is None else verdict.title,
        "detail": row.detail,
        "why": row.why,
        "method": row.method,
        "route": row.route,
        "key": row.key_id,
        "client": row.client,
        "look_at": _BLAME[source],
    }
