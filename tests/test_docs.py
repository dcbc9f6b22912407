"""What docs/ says is there, is there, and what is there, docs/ says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

import click
import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway import registry
from gateway.cli import cli
from gateway.demo.run import _CONFIGURATION
from gateway.model import VERDICTS, Reason
from gateway.observe.metrics import RequestMetrics
from gateway.reload import _NEEDS_RESTART
from gateway.settings import Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
ROW = re.compile(r"^\| (?!-)(.+) \|$", re.MULTILINE)
REQUIRED = "required"
OF_LATER_ISSUES = {"gateway_pages_total", "gateway_limit_used_ratio", "gateway_jobs"} | {
    "gateway_webhook_deliveries_total",
    "gateway_jwks_age_seconds",
}


def rows(page: str) -> dict[str, list[str]]:
    """The tables of a page, by the code in their first cells."""
    cells = (re.split(r"\s*(?<!\\)\|\s*", row) for row in ROW.findall((DOCS / page).read_text()))
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
        here = f"{path}.{name}".lstrip(".")
        section = section_of(field.annotation)
        kind = get_origin(field.annotation)
        is_plain_section = kind is None and section is not None
        is_secret = section is not None and section.__name__ == "SecretDigest"
        if not is_plain_section or is_secret:
            yield here, field.default_factory if field.default is PydanticUndefined else field.default
        if section is not None and not is_secret:
            yield from settings(section, here + {list: "[]", dict: ".<name>"}.get(kind or str, ""))


def shown(default: Any) -> str:
    if default is None:
        return "`null`"
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
        model = section_of(model.model_fields[name].annotation)
    return bool(model.model_fields[last].is_required())


def test_what_needs_a_restart_is_marked() -> None:
    marked = {name for name, cells in rows("configuration.md").items() if "*restart*" in cells[-1]}
    assert marked == {*_NEEDS_RESTART, "admin.tls"}


def test_the_shipped_routes_are_told_true() -> None:
    text = (DOCS / "configuration.md").read_text()
    for route in Settings.model_fields["routes"].default_factory():  # type: ignore[misc, call-arg] # it takes none
        path = route.path.replace("|", "\\|")
        line = f"| {route.name} | {', '.join(route.methods)} | `{path}` | {route.kind} | {route.access} |"
        assert line in text


def test_every_reason_is_there_with_its_status() -> None:
    documented = rows("errors.md")
    assert set(documented) == set(Reason)
    for reason, verdict in VERDICTS.items():
        assert documented[reason][0] == str(verdict.status), reason


def test_the_diagram_names_the_statuses_of_the_refusals() -> None:
    diagram = (DOCS / "request.md").read_text().partition("```mermaid")[2].partition("```")[0]
    told = {int(number) for text in re.findall(r'\. "([\d ]+)" \.', diagram) for number in text.split()}
    later = {415, 499, 500}
    assert told == {verdict.status for verdict in VERDICTS.values()} - later


def metric_names() -> set[str]:
    """All names that stand in the code, as Prometheus shows them."""
    source = "".join(
        path.read_text() for path in (Path(registry.__file__).parent).rglob("*.py") if "demo" not in path.parts
    )
    names = set(re.findall(r'"(gateway_[a-z_]+)"', source))
    counters = {
        *(metric.name for metric in RequestMetrics().collect() if metric.type == "counter"),
        *re.findall(r'Number\(\s*"(gateway_[a-z_]+)"[^)]*, True\s*\)', source),
        *re.findall(r'ByLabel\(\s*"(gateway_[a-z_]+)"', source),
    }
    return {f"{name}_total" if name in counters else name for name in names}


def test_every_metric_is_there_and_no_other() -> None:
    assert set(rows("metrics.md")) == metric_names()


def test_the_metrics_of_later_issues_are_named_as_such() -> None:
    assert not OF_LATER_ISSUES & metric_names()
    assert all(f"`{name}`" in (DOCS / "metrics.md").read_text() for name in OF_LATER_ISSUES)


def test_labels_are_told_true() -> None:
    documented = rows("metrics.md")
    for metric in RequestMetrics().collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = getattr(metric, "_labelnames", ())
        assert documented[name][0] == metric.type
        assert documented[name][1] == ", ".join(labels)


def commands(command: click.Command = cli, path: str = "gateway") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
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


def test_every_target_of_make_is_there() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (DOCS / "commands.md").read_text()
    assert {"run", "test", "lint", "bench", "image", "docs"} <= set(targets)
    assert all(target in text.partition("## make")[2] for target in targets)


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
            assert parts.fragment in {heading.lower().replace(" ", "-") for heading in headings}, target


def test_the_configurations_in_the_text_fit_the_schema() -> None:
    schema = Draft202012Validator(json.loads((ROOT / "config/gateway.schema.json").read_text()))
    found = 0
    for page in PAGES:
        for indent, block in re.findall(r"^( *)```yaml\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
            document = yaml.safe_load(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE))
            if isinstance(document, dict):
                schema.validate(document)
                found += 1
    assert found >= 2


def test_the_demo_does_what_the_readme_says() -> None:
    text = (ROOT / "README.md").read_text()
    assert yaml.safe_load(_CONFIGURATION.format(directory="d", port=1, admin_port=1, upstream="u"))["aliases"] == {
        "/api/v1/convert": "/api/v1/marker"
    }
    for word in ("make run", "make test", "DATALAB_HOST", "DATALAB_API_KEY", "SSL_CERT_FILE", "--upstream"):
        assert word in text


def test_no_line_of_a_page_is_longer_than_it_should_be() -> None:
    for page in PAGES:
        if page.name.startswith("benchmarks"):
            continue
        for line in page.read_text().splitlines():
            assert len(line) <= 140 or line.startswith("|"), f"{page.name}: {line[:60]}"
