"""The rules of deploy/prometheus, as they stand in its files."""

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
