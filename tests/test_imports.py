"""The house: a folder imports only folders on lower floors, and pure rooms know no loop, no socket, no clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent
# From the top floor down. What lies at the root of gateway/ has a floor, too.
FLOORS = [
    "__main__",
    "cli",
    "demo",
    "app",
    "proxy",
    "authorize admin audit",
    "listener tls jobs keys",
    "config",
    "upstream webhooks auth admission",
    "ledger",
    "uploads policy aio observe",
    "limits http",
    "errors",
    "model",
    "units",
]
PURE = [  # with those that say so in their first lines
    "units", "errors", "model", "limits", "policy", "http",
    "aio.iteration", "aio.turn", "aio.tls.records", "aio.tls.client_hello",
    "uploads.urlencoded", "uploads.form_options", "uploads.field_rules", "uploads.form", "uploads.file_kind",
    "uploads.multipart", "uploads.pages.page_range", "uploads.pages.bound", "uploads.pages.pdf_gaps",
    "uploads.pages.worker_protocol", "uploads.judged_again", "uploads.name_patterns",
    "uploads.pages.count_history", "uploads.pages.cpu_budget", "uploads.pages.suspensions",
    "observe.request_log", "observe.refusal_sampling", "observe.history", "observe.callers_seen",
    "observe.key_labels",
    "ledger.closing", "ledger.owner_turns", "ledger.postgres_url",
    "auth.api_keys", "auth.certificates", "auth.credential", "auth.jwt", "auth.keyring", "auth.key_secrets",
    "auth.secret_index", "auth.validity",
    "upstream.client_head", "upstream.request_head", "upstream.response_head", "upstream.response_reader",
    "upstream.states", "upstream.location", "upstream.repetition",
    "upstream.check_url", "upstream.url_rewriter", "upstream.json_scanner", "upstream.json_depth", "upstream.job_api",
    "upstream.submit_answer",
    "webhooks.egress.rules", "webhooks.egress.webhook_url", "webhooks.egress.forbidden", "webhooks.signature",
    "webhooks.outbound.backoff", "webhooks.outbound.circuit_breaker", "webhooks.outbound.outcome",
    "webhooks.inbound.verification", "webhooks.inbound.told_secret",
    "config.held_back", "config.consistency", "config.route_consistency", "config.restart", "config.secrets",
    "listener.proxy_protocol", "listener.parser_bypass", "listener.backlog",
    "jobs.job", "jobs.reading", "jobs.status_answer", "jobs.status_watch", "jobs.pending_ends", "jobs.view",
    "keys.view",
    "authorize.cached_headers", "authorize.permit", "authorize.preparation", "authorize.recheck", "authorize.login",
    "audit.refusals",
    "proxy.job_in_body",
]  # fmt: skip
FILES = "aio.named_files"  # the settings read what they name
IMPURE = {"asyncio", "aiohttp", "ssl", "time", "os"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name: path for path in sorted(ROOT.rglob("*.py")) if (name := name_of(path))}
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and [*path.rglob("*.py")]}


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


def floor_of(name: str) -> int:
    """0 is the ground floor: of a module's folder, or of the module itself at the root."""
    room = name.partition(".")[0]
    return next(floor for floor, rooms in enumerate(reversed(FLOORS)) if room in rooms.split())


def is_below(name: str, other: str) -> bool:
    """Whether the other one is in the same room, or on a lower floor."""
    return name.partition(".")[0] == other.partition(".")[0] or floor_of(other) < floor_of(name)


@pytest.mark.parametrize("name", MODULES)
def test_a_folder_imports_only_folders_on_lower_floors(name: str) -> None:
    assert [other for other in imported_by(name) if other in MODULES and not is_below(name, other)] == []


def test_each_room_has_one_floor_and_there_are_few() -> None:
    rooms = " ".join(FLOORS).split()
    assert sorted(rooms) == sorted({name.partition(".")[0] for name in MODULES})
    assert len(FOLDERS) <= 24
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py", "units.py"}


def is_pure(name: str) -> bool:
    says_so = "Pure." in (ast.get_docstring(ast.parse(MODULES[name].read_text())) or "")
    return says_so or any(name == entry or name.startswith(entry + ".") for entry in PURE)


@pytest.mark.parametrize("name", [name for name in MODULES if is_pure(name)])
def test_a_pure_module_knows_no_loop_no_socket_and_no_clock(name: str) -> None:
    seen, coming = {FILES}, [name]
    while coming:
        module = coming.pop()
        seen.add(module)
        outside = {other.partition(".")[0] for other in imported_by(module) if other not in MODULES}
        assert not outside & IMPURE, f"{name} reaches {outside & IMPURE} in {module}"
        coming += [other for other in imported_by(module) if other in MODULES and other not in seen]


def test_the_table_of_pure_modules_names_what_is_there() -> None:
    for entry in PURE:
        assert entry in MODULES, entry


def test_the_test_finds_imports_of_every_kind() -> None:
    assert {"app.serve", "cli.options"} <= set(imported_by("cli.serve"))
    assert "asyncio" in set(imported_by("aio.drive"))
    assert is_below("cli.serve", "app.serve")
    assert not is_below("app.serve", "cli.serve")
    assert not is_below("auth.keyring", "admission.admission")
