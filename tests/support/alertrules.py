"""The rules of deploy/prometheus, as they stand in its files."""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.process import ROOT

PROMETHEUS: Final = ROOT / "deploy/prometheus"
GROUPS: Final[dict[str, list[dict[str, Any]]]] = {
    name: yaml.safe_load((PROMETHEUS / f"rules/{name}.yml").read_text())["groups"] for name in ("recording", "alerts")
}
ALERTS: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule for group in GROUPS["alerts"] for rule in group["rules"]
}
RECORDED: Final[list[dict[str, Any]]] = [rule for group in GROUPS["recording"] for rule in group["rules"]]


def alone(path: Path, directory: Path) -> list[Path]:
    """A file of unit tests as several: those of each alert with the rules that it stands on, and no others.

    promtool computes each rule of its files each time, over all that a test feeds in.
    """
    whole = yaml.safe_load(path.read_text())
    made: list[Path] = []
    for wanted, cases in groupby(sorted(whole["tests"], key=_wanted_by), key=_wanted_by):
        own = directory / f"{len(made)}.yml"
        rules = directory / f"{len(made)}.rules.yml"
        rules.write_text(json.dumps({"groups": _groups_of(_needed_by(wanted))}))
        own.write_text(json.dumps({**whole, "rule_files": [rules.name], "tests": list(cases)}))
        made.append(own)
    return made


def _wanted_by(case: Mapping[str, Any]) -> list[str]:
    """The names that a unit test asks for, alerts and recorded ones."""
    alerts = {each["alertname"] for each in case.get("alert_rule_test", ())}
    return sorted(alerts.union(*(_names_in(each["expr"]) for each in case.get("promql_expr_test", ()))))


def _names_in(expression: str) -> set[str]:
    return set(re.findall(r"[\w:]+", expression)) & {rule["record"] for rule in RECORDED}


def _needed_by(names: Iterable[str]) -> set[str]:
    """Those and all that they are computed from."""
    needed, more = set[str](), set(names)
    while more:
        needed |= more
        rules = [rule for group in _groups_of(more) for rule in group["rules"]]
        more = set[str]().union(*(_names_in(rule["expr"]) for rule in rules)) - needed
    return needed


def _groups_of(names: set[str]) -> list[dict[str, Any]]:
    """The groups as they stand, with these rules alone."""
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if (rule.get("alert") or rule["record"]) in names]}
        for kind in GROUPS.values()
        for group in kind
    ]
    return [group for group in groups if group["rules"]]
