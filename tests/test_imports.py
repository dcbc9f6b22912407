"""Chapter 4 of the design: dependencies point down only, and pure rooms know no loop, no socket, no clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent
LEVELS = [
    "cli __main__ schema demo commands",
    "app check registry process memory books jobparts",
    "handler admin reload checkledger",
    "submission keeper health jwks keyadmin jobs webhooks audit.trail",
    """admission turnstile again keyfetch keyfiles wantedkey notify listener forward observe tls clientca devcerts
    standard jobs.registry webhooks.destination webhooks.planning webhooks.resolver webhooks.sender webhooks.bounded
    webhooks.breaker
    body.submitbody body.spool body.counter body.turns body.workerprocess body.worker""",
    "ledger jobfacts acquaintance auth.login state configuration disagreements jobroutes ledgerurl restart",
    """account audit settings problem trace policy limits headers clientaddr networks upstreamlines keyfacts auth body
    origin postgresurl units drive iteration inturn turn tlsrecords clienthello tlsengine tlstransport
    jobs.shape jobs.job webhooks.rules webhooks.signature webhooks.verifying
    webhooks.url
    webhooks.forbidden webhooks.schedule webhooks.message webhooks.outcome webhooks.incoming""",
    "model errors",
]
PURE = [
    "model", "errors", "headers", "clientaddr", "networks", "origin", "upstreamlines", "policy", "units", "problem",
    "trace",
    "postgresurl", "restart",
    "acquaintance", "account", "keyfacts", "iteration", "turn", "tlsrecords", "clienthello", "again", "auth",
    "disagreements", "jobroutes", "limits",
    "audit.entry", "audit.refusals", "audit.declared",
    "jobfacts", "jobs.shape", "jobs.job", "jobs.named", "jobs.reading", "forward.urls",
    "webhooks.rules", "webhooks.signature", "webhooks.url", "webhooks.forbidden", "webhooks.schedule",
    "webhooks.breaker", "webhooks.message", "webhooks.outcome", "webhooks.incoming",
    "body.contenttype", "body.pagerange", "body.filekind", "body.form", "body.bound", "body.parthead", "body.framing",
    "body.fieldrules", "body.parts", "body.inspector", "body.urlencoded", "body.gaps", "body.spending",
    "ledger.turns",
    "forward.heads", "forward.answer", "forward.reader", "forward.states", "forward.places", "forward.checkurl",
    "forward.scalars", "forward.below",
    "listener.proxyprotocol", "listener.bypass", "listener.backlog",
    "observe.requestlog", "observe.strangers",
]  # fmt: skip
IMPURE = {"asyncio", "aiohttp", "ssl", "time", "os"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name: path for path in sorted(ROOT.rglob("*.py")) if (name := name_of(path))}


def imported_by(name: str) -> Iterator[str]:
    """Every module that a module names in an import, wherever in its text; those of ours without `gateway.`."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("gateway.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            module = (node.module or "").removeprefix("gateway.")
            inner = [alias.name if module == "gateway" else f"{module}.{alias.name}" for alias in node.names]
            yield from ([entry for entry in inner if entry in MODULES] or [module])


def level_of(name: str) -> int:
    """0 is the top. The longest name in the table that the module is, or is in, decides."""
    found = {
        entry: number
        for number, entries in enumerate(LEVELS)
        for entry in entries.split()
        if name == entry or name.startswith(entry + ".")
    }
    assert found, f"{name} has no place among the rooms"
    return found[max(found, key=len)]


@pytest.mark.parametrize("name", MODULES)
def test_dependencies_point_down_only(name: str) -> None:
    upward = [other for other in imported_by(name) if other in MODULES and level_of(other) < level_of(name)]
    assert upward == []


def is_pure(name: str) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in PURE)


@pytest.mark.parametrize("name", [name for name in MODULES if is_pure(name)])
def test_a_pure_module_knows_no_loop_no_socket_and_no_clock(name: str) -> None:
    seen, coming = set[str](), [name]
    while coming:
        module = coming.pop()
        seen.add(module)
        outside = {other.partition(".")[0] for other in imported_by(module) if other not in MODULES}
        assert not outside & IMPURE, f"{name} reaches {outside & IMPURE} in {module}"
        coming += [other for other in imported_by(module) if other in MODULES and other not in seen]


def test_the_tables_name_what_is_there() -> None:
    for entry in [*" ".join(LEVELS).split(), *PURE]:
        assert entry in MODULES, entry


def test_the_test_finds_imports_of_every_kind() -> None:
    assert {"app", "check", "devcerts", "demo.run"} <= set(imported_by("cli"))
    assert "asyncio" in set(imported_by("drive"))
    assert (level_of("auth.login"), level_of("auth.apikey"), level_of("forward.heads")) == (5, 6, 4)
    assert (level_of("body.spool"), level_of("body.inspector")) == (4, 6)
