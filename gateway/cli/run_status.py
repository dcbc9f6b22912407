"""The output of `gateway status`: one look at a running gateway."""

from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gateway.cli.health_facts import HealthFacts, facts_of
from gateway.cli.output import answer, end_failed, tell
from gateway.cli.running_gateway import Samples, ask
from gateway.cli.session import Session, look
from gateway.cli.table import show_table
from gateway.cli.words import away
from gateway.errors import LedgerUnavailable
from gateway.ledger.jobs import count
from gateway.ledger.refusals import RefusalRow, latest
from gateway.units import moment

T = TypeVar("T")
_REFUSALS: Final = 5
_HOUR: Final = 3600
AGE: Final = "jobs as counted up to 10 s ago"
_COUNTED: Final = {
    "requests in flight": "gateway_requests_in_flight",
    "connections": "gateway_connections",
}
_STATES: Final = ("running", "complete", "failed")


class _Looked(NamedTuple):
    found: Samples
    facts: HealthFacts
    refusals: list[RefusalRow]
    jobs: Mapping[str, int] | None
    now: float


def tell_status(config: Path) -> None:
    """Prints the status; exits 1 when something is wrong."""
    looked = look(config, partial(_look, config))
    answer(_object(looked), lambda: _print(looked))
    if looked.facts.problems:
        end_failed()


async def _look(config: Path, session: Session) -> _Looked:
    found, now = await ask(session.settings, config), session.wall()
    refusals = await _or_none(session.ledger.read(lambda c: latest(c, _REFUSALS, now - _HOUR)))
    jobs = await _or_none(session.ledger.report(count))
    return _Looked(found, facts_of(found, now), refusals or [], jobs, now)


async def _or_none(asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except LedgerUnavailable:
        return None  # the gateway itself says that its ledger is gone


def counts_of(found: Samples, jobs: Mapping[str, int] | None = None) -> dict[str, int]:
    """What it does now; jobs as they were counted in the ledger, else as the gateway counted them last."""
    counted = (
        jobs if jobs is not None else {state: int(found.total("gateway_jobs", state=state)) for state in _STATES}
    )
    told = {f"jobs {state}": counted.get(state, 0) for state in _STATES}
    return {**{name: int(found.total(metric)) for name, metric in _COUNTED.items()}, **told}


def _print(looked: _Looked) -> None:
    facts = looked.facts
    tell("healthy" if not facts.problems else "not healthy")
    tell(*(f"problem: {text}" for text in facts.problems))
    tell(*(f"warning: {text}" for text in facts.warnings))
    age = "" if looked.jobs is not None else f" ({AGE})"
    tell(", ".join(f"{name} {count}" for name, count in counts_of(looked.found, looked.jobs).items()) + age)
    if facts.limits:
        tell("\nlimits near their end")
        show_table(("key", "limit", "used"), [(key, limit, f"{share:.0%}") for key, limit, share in facts.limits])
    if looked.refusals:
        tell("\nlast refusals and failures")
        rows = [
            (away(moment(row.at), looked.now), row.status, row.reason, row.why, row.key_id, row.request_id)
            for row in looked.refusals
        ]
        show_table(("at", "status", "reason", "why", "key", "request id"), rows, frozenset({"status"}))


def _object(looked: _Looked) -> dict[str, Any]:
    facts = looked.facts
    return {
        "healthy": not facts.problems,
        "problems": facts.problems,
        "warnings": facts.warnings,
        "now": {name.replace(" ", "_"): count for name, count in counts_of(looked.found, looked.jobs).items()},
        "jobs_are_exact": looked.jobs is not None,
        "limits": [{"key": key, "limit": limit, "used_ratio": share} for key, limit, share in facts.limits],
        "refusals": [{**row._asdict(), "at": moment(row.at)} for row in looked.refusals],
    }
