"""What docs/ says is there, is there, and what is there, docs/ says."""

import ast
import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

import click
import pytest
import yaml
from jsonschema import Draft202012Validator
from prometheus_client.metrics_core import Metric
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.admin.api import make_operations
from gateway.admin.problem import TITLES
from gateway.app import metrics as registry
from gateway.auth.jwks.source import KeySource
from gateway.auth.jwks.store import KeySets
from gateway.auth.jwt.key_set import KeySet
from gateway.cli.main import cli
from gateway.config.restart import NEEDS_RESTART
from gateway.config.settings import ProfileSettings, Settings
from gateway.config.settings.limits import BUDGETS
from gateway.demo.run import CONFIGURATION
from gateway.ledger.schema import metadata
from gateway.ledger.steps import MOST_OF_AN_ACCOUNT
from gateway.model.reasons import VERDICTS, Reason
from gateway.observe.account_metrics import AccountMetrics
from gateway.observe.collectors import KeySetMetrics
from gateway.observe.metrics import RequestMetrics
from gateway.webhooks.outbound.metrics import WebhookMetrics
from tests.test_imports import FLOORS, FOLDERS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
ROW = re.compile(r"^\| (?!-)(.+) \|$", re.MULTILINE)
REQUIRED = "required"
# References to secrets have a table of their own; overrides are those of a profile (config/test_json_schema.py).
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LEAVES = {"SecretDigest", "SecretValue", "LimitOverrides"}
SOURCES = {
    path: path.read_text() for path in Path(registry.__file__).parent.parent.rglob("*.py") if "demo" not in path.parts
}


def rows(page: str, until: str = "\0") -> dict[str, list[str]]:
    """The tables of a page, up to a heading, by the code in their first cells."""
    text = (DOCS / page).read_text().partition(f"\n{until}\n")[0]
    cells = (re.split(r"\s*(?<!\\)\|\s*", row) for row in ROW.findall(text))
    return {first.strip("` "): [cell.strip() for cell in rest] for first, *rest in cells if first.startswith("`")}


def section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {list, dict, Union, UnionType}:
        return next((found for inner in get_args(annotation) if (found := section_of(inner))), None)
    return None


def settings(model: type[BaseModel] = Settings, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and default of every setting; a section itself is none, unless it is a list, a mapping, or left out."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}".lstrip(".")
        section = section_of(field.annotation)
        kind = get_origin(field.annotation)
        is_plain_section = kind is None and section is not None
        is_leaf = section is not None and section.__name__ in LEAVES
        if not is_plain_section or is_leaf:
            yield here, field.default_factory if field.default is PydanticUndefined else field.default
        if section is not None and not is_leaf:
            yield from settings(section, here + {list: "[]", dict: ".<name>"}.get(kind or str, ""))


def shown(default: Any) -> str:
    if default is None:
        return "`null`"
    if isinstance(default, BaseModel):
        default = default.model_dump(exclude_unset=True)
    if isinstance(default, bool | list | dict):
        return f"`{json.dumps(default)}`"
    return f"`{default}`"


def test_every_setting_is_there_and_no_other() -> None:
    documented = {name for name in rows("configuration.md") if not name.startswith("{")}
    assert documented == {path for path, _ in settings()}


@pytest.mark.parametrize(("path", "default"), list(settings()))
def test_its_default_is_true(path: str, default: Any) -> None:
    said = rows("configuration.md")[path][1]
    expected = "see above" if callable(default) else REQUIRED if _is_required(path) else shown(default)
    assert said == expected


def _is_required(path: str) -> bool:
    model: Any = Settings
    *parents, last = re.sub(r"\[\]|\.<name>", "", path).split(".")
    for name in parents:
        model = section_of(fields_of(model)[name].annotation)
    return bool(fields_of(model)[last].is_required())


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """By the names that they have in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def test_what_needs_a_restart_is_marked() -> None:
    documented = rows("configuration.md")
    marked = {name for name, cells in documented.items() if "*restart*" in cells[-1]}
    assert marked == {name for name in documented if name in NEEDS_RESTART or name.partition(".")[0] in NEEDS_RESTART}


def test_the_shipped_routes_are_told_true() -> None:
    text = (DOCS / "configuration.md").read_text()
    for route in Settings.model_fields["routes"].default_factory():  # type: ignore[misc, call-arg] # it takes none
        path = route.path.replace("|", "\\|")
        line = f"| {route.name} | {', '.join(route.methods)} | `{path}` | {route.kind} | {route.access} |"
        assert line in text


def test_every_reason_is_there_with_its_status() -> None:
    documented = rows("errors.md", until="## Headers")
    assert set(documented) == set(Reason)
    for reason, verdict in VERDICTS.items():
        assert documented[reason][0] == str(verdict.status), reason


def test_the_diagram_names_the_statuses_of_the_refusals() -> None:
    diagram = (DOCS / "request.md").read_text().partition("```mermaid")[2].partition("```")[0]
    told = {int(number) for text in re.findall(r'\. "([\d ]+)" \.', diagram) for number in text.split()}
    assert told == {verdict.status for verdict in VERDICTS.values()} - {200, 499, 500}


@pytest.mark.parametrize("name", sorted(BUDGETS))
def test_the_limits_are_told_of_on_their_page(name: str) -> None:
    assert f"`{name}`" in (DOCS / "limits.md").read_text()
    assert name in ProfileSettings.model_fields


def test_every_header_of_an_answer_is_there() -> None:
    where = ("gateway/http/problem.py", "gateway/policy/routes.py", "gateway/limits/quotas.py")
    source = "".join(text for path, text in SOURCES.items() if str(path).endswith(where))
    words = re.findall(r"""["']([A-Z][A-Za-z]*(?:-[A-Za-z]+)*): """, source)
    common = {"Content-Type", "Content-Length", "Cache-Control", "Date", "Connection"}
    assert set(rows("errors.md")) - set(Reason) == set(words) - common


async def _never(_: KeySource, __: float) -> KeySet:
    raise AssertionError


def families() -> list[Metric]:
    """The metrics that rooms make by themselves, still without values."""
    rooms = (RequestMetrics(), AccountMetrics(), KeySetMetrics(KeySets(lambda _: None, _never)), WebhookMetrics())
    return [metric for room in rooms for metric in room.collect()]


def metric_names() -> set[str]:
    """All names that stand in the code, as Prometheus shows them."""
    source = "".join(SOURCES.values())
    names = set(re.findall(r'"(gateway_[a-z_]+)"', source))
    counters = {
        *(metric.name for metric in families() if metric.type == "counter"),
        *re.findall(r'Number\(\s*"(gateway_[a-z_]+)"[^)]*, True\s*\)', source),
        *re.findall(r'(?:ByLabel|CounterMetricFamily)\(\s*"(gateway_[a-z_]+)"', source),
    }
    return {f"{name}_total" if name in counters else name for name in names}


def test_every_metric_is_there_and_no_other() -> None:
    assert set(rows("metrics.md")) == metric_names()


def test_labels_are_told_true() -> None:
    documented = rows("metrics.md")
    for metric in families():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = getattr(metric, "_labelnames", ())
        assert documented[name][0] == metric.type
        assert documented[name][1] == ", ".join(labels)


def test_every_event_is_there_and_no_other() -> None:
    logged = {
        event: level
        for text in SOURCES.values()
        for level, event in re.findall(r'\blog\.(debug|info|warning|error)\(\s*"([^"]+)"', text)
    }
    section = (DOCS / "log.md").read_text().partition("## The gateway itself")[2].partition("\n## ")[0]
    documented = dict(re.findall(r"^\| `([^`]+)` \| (\w+) \|", section, re.MULTILINE))
    assert documented == logged


def inner_commands(group: click.Group) -> dict[str, click.Command]:
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def commands(command: click.Command = cli, path: str = "gateway") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in inner_commands(command).items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_is_there_with_its_options(path: str, command: click.Command) -> None:
    text = (DOCS / "commands.md").read_text()
    assert f"## {path}\n" in text
    about = text.partition(f"## {path}\n")[2].partition("\n## ")[0]
    summary = next(line for line in text.splitlines() if line.startswith(f"| `{path}"))
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.opts[0] in about or option.opts[0] in summary, option.opts[0]


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """The commands of this project in code blocks, where they stand and what they are called with."""
    for page in PAGES:
        blocks = re.findall(r"^(?: {4,})(.*)$", page.read_text(), re.MULTILINE)
        for line in blocks:
            found = re.search(
                r"^(?:(?:export )?[A-Z]+=\$\()?(?:\.venv/bin/|/opt/gateway/bin/)?gateway ([^)]*)\)?$", line
            )
            if found:
                yield f"{page.name}: {line}", shlex.split(found[1], comments=True)


@pytest.mark.parametrize(("where", "words"), [pytest.param(*shown, id=shown[0]) for shown in shown_commands()])
def test_the_commands_that_are_shown_can_be_called_so(where: str, words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group):
        inner = inner_commands(command)
        assert words[0] in inner, where
        command = inner[words.pop(0)]
    with contextlib.suppress(click.exceptions.Exit):
        # click keeps the help option that a command is first asked for: -h must be one of its names here, too.
        command.make_context(command.name, words, help_option_names=["-h", "--help"])


def named_commands() -> Iterator[tuple[str, list[str]]]:
    """The commands that stand within a sentence or a table, which may leave out what a call needs."""
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for words in re.findall(r"`(?:/opt/gateway/bin/|\.venv/bin/)?gateway\s+([^`]+)`", page.read_text()):
            yield f"{page.name}: gateway {' '.join(words.split())}", words.split()


@pytest.mark.parametrize(("where", "words"), [pytest.param(*named, id=named[0]) for named in named_commands()])
def test_the_commands_that_are_named_have_these_options(where: str, words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and re.match(r"[a-z][a-z-]+$", words[0]):
        inner = inner_commands(command)
        assert words[0] in inner, where
        command = inner[words.pop(0)]
    known = {name for option in command.params for name in option.opts} | {"--help"}
    given = {word.strip("[]|") for word in words if word.strip("[|").startswith("--")}
    assert given <= known, where
    if command.name == "explain" and "--key" in given:  # of a request alone
        assert "PATH" in words, where


def test_every_target_of_make_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (DOCS / "commands.md").read_text()
    assert {"run", "test", "lint", "bench", "image", "docs"} <= set(targets)
    assert all(target in text.partition("## make")[2] for target in targets)


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_floors_of_the_architecture_are_those_that_are_tested() -> None:
    page = (DOCS / "architecture.md").read_text()
    block = page.partition("knows the configuration.\n\n")[2].partition("\n\n")[0]
    told = re.findall(r"^ +[0-9]+  ([a-z ]+?)(?:  .*)?$", block, re.MULTILINE)
    assert ["__main__", *told] == FLOORS
    rows_of_rooms = re.findall(r"^\| (([a-z]+)/ \| .*)$", page, re.MULTILINE)
    assert sorted(room for _, room in rows_of_rooms) == sorted(FOLDERS)
    for row, room in rows_of_rooms:
        assert len(row) <= 140, f"{room}: a plain line says what it holds"


@pytest.mark.parametrize("what", ["a submit", "a poll"])
def test_the_walk_of_a_request_names_files_that_are_there_and_each_once(what: str) -> None:
    section = (DOCS / "request.md").read_text().partition(f"## The walk of {what}\n")[2].partition("\n## ")[0]
    items = re.findall(r"^1\. .*$", section, re.MULTILINE)
    files = [named[1] for item in items if (named := re.match(r"1\. `([a-z_/]+\.py)` ", item))]
    assert len(files) == len(items) > 10
    assert len(set(files)) == len(files)
    for file, item in zip(files, items, strict=True):
        assert (ROOT / "gateway" / file).is_file(), file
        for name in re.findall(r"\(`([a-z_]+)`\)", item):
            assert f"def {name}(" in (ROOT / "gateway" / file).read_text(), f"{file}: {name}"


# What a reader greps for who knows the trade and not this tree, and the files whose docstrings have to say it, since
# it is done there: below gateway/, without `.py`.
TRADE_WORDS = {
    "allowlist": "policy/route_access",
    "back pressure": "docs/request docs/architecture",
    "backoff": "jobs/poll_interval limits/pauses webhooks/outbound/backoff",
    "circuit breaker": "upstream/health webhooks/outbound/circuit_breaker",
    "client certificate": "auth/certificates docs/architecture docs/request",
    "coalescing": "jobs/shared_polls",
    "connection pool": "upstream/pool",
    "constant time": "admin/authentication auth/api_keys webhooks/signature webhooks/inbound/verification "
    "webhooks/inbound/told_secret",
    "deduplication": "ledger/inbound_webhooks webhooks/inbound/inbound_receiver",
    "denylist": "auth/validity",
    "dns rebinding": "admin/authentication",
    "expired": "jobs/retention",
    "idempotency": "ledger/keys",
    "key rotation": "keys/key_changes",
    "long poll": "jobs/long_polls",
    "mtls": "auth/certificates auth/validity listener/connections",
    "pagination": "admin/cursors ledger/audit ledger/key_records ledger/listings ledger/paging ledger/refusals",
    "rate limit": "limits/buckets limits/bad_logins limits/poll_rate limits/quotas",
    "request smuggling": "http/headers upstream/states docs/threat-model",
    "retry": "upstream/repetition webhooks/outbound/backoff",
    "slowloris": "listener/clocks",
    "spend limit": "limits/quotas",
    "ssrf": "webhooks/egress/destination webhooks/egress/forbidden webhooks/egress/rules",
    "throttle": "admission/throttle authorize/login",
    "token bucket": "limits/buckets limits/bad_logins limits/poll_rate limits/quotas limits/submit_decisions",
    "webhook signature": "webhooks/signature",
    "zip bomb": "jobs/reading",
}


def words_of(place: str) -> str:
    """The text of a page, or all docstrings of a file, in one line."""
    if place.startswith("docs/"):
        text = (ROOT / f"{place}.md").read_text()
    else:
        tree = ast.parse((ROOT / "gateway" / f"{place}.py").read_text())
        owners = (node for node in ast.walk(tree) if isinstance(node, DOCUMENTED))
        text = " ".join(ast.get_docstring(owner) or "" for owner in owners)
    return " ".join(text.lower().split())


@pytest.mark.parametrize(("word", "places"), TRADE_WORDS.items())
def test_a_word_of_the_trade_leads_to_where_it_is_done(word: str, places: str) -> None:
    assert [place for place in places.split() if word not in words_of(place)] == []


COMMAND = re.compile(
    r"^ +(?:(?:sudo|export|for|make|curl|python\S*|gateway|/opt/gateway/bin/\w+|kubectl|\(umask)\s.*|sleep \d.*)$",
    re.MULTILINE,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_has_a_comment_behind_it(page: Path) -> None:
    """An interactive zsh, into which a page is pasted, takes it for arguments."""
    assert [line for line in COMMAND.findall(page.read_text()) if re.search(r"\s#\s", line)] == []


def test_this_test_sees_commands() -> None:
    found = [line for page in PAGES for line in COMMAND.findall(page.read_text())]
    assert len(found) > 40
    assert COMMAND.findall("    sleep 2  # a while\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        there = page.parent / parts.path if parts.path else page
        if there.name.startswith("benchmarks"):
            continue  # written by `make bench`
        assert there.exists(), target
        if parts.fragment:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert parts.fragment in {anchor_of(heading) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    for named in re.findall(r"(?<![\w/.])(?:[\w/]+/)?test_\w+\.py", page.read_text()):
        assert list(ROOT.glob(f"tests/**/{named.removeprefix('tests/')}")), named


def test_the_size_of_the_ledger_is_told_of_each_table() -> None:
    page = (DOCS / "ledger.md").read_text().partition("## Size, and what is in it")[2].partition("\n\n**")[0]
    told = {name for row in ROW.findall(page) for name in row.partition(" | ")[0].split(", ")}
    assert told - {"table"} == set(metadata.tables)


def test_the_turns_of_an_account_are_told_true() -> None:
    assert f"one account has at most {MOST_OF_AN_ACCOUNT} submits" in (DOCS / "limits.md").read_text()


def test_the_configurations_in_the_text_fit_the_schema() -> None:
    schema = Draft202012Validator(json.loads((ROOT / "config/gateway.schema.json").read_text()))
    found = 0
    for page in PAGES:
        for indent, block in re.findall(r"^( *)```yaml\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
            document = yaml.safe_load(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE))
            if isinstance(document, dict):
                schema.validate({"network": {"allow": ["10.0.0.0/8"]}, **document})
                found += 1
    assert found >= 2


def test_the_demo_does_what_the_readme_says() -> None:
    text = (ROOT / "README.md").read_text()
    assert yaml.safe_load(CONFIGURATION.format(directory="d", port=1, admin_port=1, upstream="u"))["aliases"] == {
        "/api/v1/convert": "/api/v1/marker"
    }
    for word in ("make run", "make test", "DATALAB_HOST", "DATALAB_API_KEY", "SSL_CERT_FILE", "--upstream"):
        assert word in text


def test_the_readme_uses_the_names_of_the_unit() -> None:
    for page in (ROOT / "README.md", DOCS / "systemd.md"):
        text = page.read_text()
        assert "install -d -m 0750 -o root -g document-gateway /etc/gateway /etc/gateway/tls" in text
        assert "chgrp document-gateway /etc/gateway/tls/server.key && chmod 0640 /etc/gateway/tls/server.key" in text
    shipped = yaml.safe_load((ROOT / "deploy/systemd/gateway.yaml").read_text())
    assert f"--ledger {shipped['ledger']['url']}" in (ROOT / "README.md").read_text()


def test_no_page_has_marks_of_a_merge() -> None:
    for page in PAGES:
        marked = [line for line in page.read_text().splitlines() if re.match(r"<{7} |={7}$|>{7} ", line)]
        assert marked == [], page.name


def test_no_line_of_a_page_is_longer_than_it_should_be() -> None:
    for page in PAGES:
        if page.name.startswith("benchmarks"):
            continue
        for line in page.read_text().splitlines():
            assert len(line) <= 140 or line.startswith("|"), f"{page.name}: {line[:60]}"


def test_the_admin_api_is_told_true() -> None:
    told = re.findall(r"^\| ([A-Z]+) \| `(/admin/[^`]+)` \|", (DOCS / "admin-api.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted((operation.method, operation.path) for operation in make_operations())
    documented = rows("admin-api.md")
    for reason, (status, _) in TITLES.items():
        assert documented[reason][0] == str(status), reason
