"""The dashboard of deploy/grafana: its panels, and their queries as Grafana would send them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.support.process import ROOT

GRAFANA: Final = ROOT / "deploy/grafana"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboard.json").read_text())


def rows() -> list[dict[str, Any]]:
    """The headings."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]


def panels() -> list[dict[str, Any]]:
    """All that shows something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """The queries of panels, variables and annotations, variables still in them."""
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (
        variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable
    )
    yield from (note["expr"] for note in DASHBOARD["annotations"]["list"] if "expr" in note)


def substituted(expression: str, values: Mapping[str, str]) -> str:
    """A query with its variables put in, longest names first, as `$__rate_interval` must not be a `$__rate`."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", values[name])
    assert "$" not in expression, expression
    return expression


def escaped(value: str) -> str:
    r"""A value of a variable inside a pattern: Grafana escapes it, and PromQL's string has each backslash twice."""
    return re.sub(r"([\\^$*+?.()|\[\]{}])", r"\\\\\1", value)
