"""The output of `gateway status`: one look at a running gateway."""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gateway.cli.followers import ELSEWHERE
from gateway.cli.health_facts import HealthFacts, facts_of
from gateway.cli.output import answer, end_failed, print_lines
from gateway.cli.running_gateway import ask, base_of
from gateway.cli.samples import Samples
from gateway.cli.session import Session, look_at, read_ledger_of
from gateway.cli.table import printable, show_table
from gateway.cli.words import away, why_of
from gateway.config.ledger_url import url_of
from gateway.config.salvage import LEDGER_URL, Salvaged
from gateway.config.settings import Settings
from gateway.errors import LedgerUnavailable
from gateway.ledger.jobs import count
from gateway.ledger.refusals import RefusalRow, latest
from gateway.ledger.url import SQLITE, shown_url
from gateway.model.jobs import JOB_STATES
from gateway.units import moment

T = TypeVar("T")
_REFUSALS: Final = 5
ASKED: Final = frozenset({"admin"})
_HOUR: Final = 3600
AGE: Final = "jobs as counted up to 10 s ago"
_COUNTED: Final = {
    "requests in flight": "gateway_requests_in_flight",
    "connections": "gateway_connections",
}


class _InLedger(NamedTuple):
    """What the ledger tells; None: it does not. `trouble` says why."""

    refusals: list[RefusalRow] | None = None
    jobs: Mapping[str, int] | None = None
    trouble: str = ""


class _Looked(NamedTuple):
    address: str
    found: Samples
    facts: HealthFacts
    refusals: list[RefusalRow]
    jobs: Mapping[str, int] | None
    now: float
    ledger: Mapping[str, str] | None


def show_status(config: Path) -> None:
    """Prints the status; exits 1 when something is wrong."""
    looked = look_at(config, lambda found: asyncio.run(_look(found, config)), ASKED)
    answer(_object(looked), lambda: _print(looked))
    if looked.facts.problems:
        end_failed()


async def _look(known: Salvaged, config: Path) -> _Looked:
    settings = known.settings
    found, now = await ask(settings, config), time.time()
    facts = facts_of(found, now, _addresses(settings))
    told = _InLedger()
    if _is_elsewhere(found):
        facts.warnings.append(f"{ELSEWHERE}; jobs are as it counted them, and its refusals are in that one")
    else:
        told = _InLedger(trouble=known.unknown_ledger) if known.unknown_ledger else await _in_ledger(settings)
    if told.trouble:
        facts.problems.append(f"ledger: {told.trouble}")
    ledger = None if known.unknown_ledger else _ledger(url_of(settings))
    return _Looked(base_of(settings), found, facts, told.refusals or [], told.jobs, now, ledger)


def _ledger(url: str) -> dict[str, str]:
    """Which one the configuration names, without user and password."""
    return {"engine": "SQLite" if url.startswith(SQLITE) else "PostgreSQL", "name": shown_url(url)}


def _is_elsewhere(found: Samples) -> bool:
    waits = found.readiness.get("waits_for_restart")
    return isinstance(waits, list) and LEDGER_URL in waits


def _addresses(settings: Settings) -> dict[str, str]:
    """Where the health path of each upstream is asked for."""
    every = {"default": settings.upstream, **settings.upstreams}
    return {name: f"{upstream.url}{upstream.health_path}" for name, upstream in every.items()}


async def _in_ledger(settings: Settings) -> _InLedger:
    async def work(session: Session) -> _InLedger:
        since = session.wall() - _HOUR
        refusals = await _or_none(session.ledger.read(lambda c: latest(c, _REFUSALS, since)))
        return _InLedger(refusals, await _or_none(session.ledger.report(count)))

    try:
        return await read_ledger_of(Salvaged(settings), work)
    except LedgerUnavailable as error:
        return _InLedger(trouble=str(error))


async def _or_none(asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except LedgerUnavailable:
        return None  # the gateway itself says that its ledger is gone


def counts_of(found: Samples, jobs: Mapping[str, int] | None = None) -> dict[str, int]:
    """What it does now; jobs as they were counted in the ledger, else as the gateway counted them last."""
    counted = (
        jobs if jobs is not None else {state: int(found.total("gateway_jobs", state=state)) for state in JOB_STATES}
    )
    told = {f"jobs {state}": counted.get(state, 0) for state in JOB_STATES}
    return {**{name: int(found.total(metric)) for name, metric in _COUNTED.items()}, **told}


def now_of(found: Samples, jobs: Mapping[str, int] | None = None) -> dict[str, int]:
    """The same for programs."""
    return {name.replace(" ", "_"): count for name, count in counts_of(found, jobs).items()}


def limits_of(facts: HealthFacts) -> list[dict[str, Any]]:
    """Who is near a limit, for programs."""
    return [{"key": key, "limit": limit, "used_ratio": share} for key, limit, share in facts.limits]


def _print(looked: _Looked) -> None:
    facts = looked.facts
    print_lines("healthy" if not facts.problems else "not healthy")
    version = printable(_version(looked))  # whoever holds the port may say anything
    print_lines(f"gateway {version} at {looked.address}" if version else f"at {looked.address}")
    if looked.ledger is not None:
        print_lines("ledger {engine}, {name}".format(**looked.ledger))
    print_lines(*(f"problem: {printable(text)}" for text in facts.problems))
    print_lines(*(f"warning: {printable(text)}" for text in facts.warnings))
    age = "" if looked.jobs is not None else f" ({AGE})"
    print_lines(", ".join(f"{name} {count}" for name, count in counts_of(looked.found, looked.jobs).items()) + age)
    if facts.limits:
        print_lines("\nlimits near their end")
        show_table(("key", "limit", "used"), [(key, limit, f"{share:.0%}") for key, limit, share in facts.limits])
    if looked.refusals:
        print_lines("\nlast refusals and failures")
        rows = [
            (row.request_id, away(moment(row.at), looked.now), row.status, why_of(row.reason, row.why), row.key_id)
            for row in looked.refusals
        ]
        show_table(("request id", "at", "status", "why", "key"), rows, frozenset({"status"}))


def _version(looked: _Looked) -> str:
    return str(looked.found.overview.get("version") or "")


def _object(looked: _Looked) -> dict[str, Any]:
    facts = looked.facts
    return {
        "healthy": not facts.problems,
        "address": looked.address,
        "version": _version(looked) or None,
        "ledger": looked.ledger,
        "problems": facts.problems,
        "warnings": facts.warnings,
        "now": now_of(looked.found, looked.jobs),
        "jobs_are_exact": looked.jobs is not None,
        "limits": limits_of(facts),
        "refusals": [{**row._asdict(), "at": moment(row.at)} for row in looked.refusals],
    }
