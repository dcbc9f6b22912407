"""A real Prometheus with exactly deploy/prometheus scrapes a gateway in use: its rules, alerts, and all panels."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final

import pytest

from tests.support.alertrules import ALERTS, RECORDED
from tests.support.dashboard import DASHBOARD, escaped, expressions, panels, substituted
from tests.support.monitoring import PATIENCE, Seen, needs_prometheus, seen
from tests.support.process import eventually

pytestmark = [needs_prometheus, pytest.mark.timeout(600)]
RATE_INTERVAL: Final = "5m"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Seen]:
    with seen(tmp_path_factory.mktemp("scene"), certificates) as made:
        yield made


@pytest.fixture
def variables(scene: Seen) -> dict[str, str]:
    """What Grafana puts in where `All` is chosen; the values of job and instance are those of label_values()."""
    (build,) = scene.prometheus.ask("gateway_build_info", scene.at)
    job, instance = escaped(build["metric"]["job"]), escaped(build["metric"]["instance"])
    return {"job": job, "instance": instance, "key": ".*", "__rate_interval": RATE_INTERVAL}


def test_the_gateway_is_scraped_with_its_token(scene: Seen) -> None:
    (target,) = scene.prometheus.api("targets")["activeTargets"]
    assert (target["labels"]["job"], target["health"], target["lastError"]) == ("document-gateway", "up", "")


def test_every_rule_is_loaded_and_can_be_computed(scene: Seen) -> None:
    rules = [rule for group in scene.prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(ALERTS)
    assert {rule["name"] for rule in rules if rule["type"] == "recording"} == {rule["record"] for rule in RECORDED}
    assert {(rule["health"], rule.get("lastError")) for rule in rules} == {("ok", None)}


def test_every_recorded_series_is_a_number(scene: Seen) -> None:
    found = scene.prometheus.ask('{__name__=~"gateway:.*"}', scene.at)
    assert {row["metric"]["__name__"] for row in found} == {rule["record"] for rule in RECORDED}
    assert all(math.isfinite(float(row["value"][1])) for row in found)


def test_the_shares_of_all_sources_are_a_whole(scene: Seen) -> None:
    (whole,) = scene.prometheus.ask(
        "sum(gateway:errors:ratio_rate5m)"
        ' + sum(gateway:requests:rate5m{source="none"}) / sum(gateway:requests:rate5m)',
        scene.at,
    )
    assert float(whole["value"][1]) == pytest.approx(1)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_query_of_a_panel_has_an_answer(panel: dict[str, Any], scene: Seen, variables: dict[str, str]) -> None:
    for target in panel["targets"]:
        query = substituted(target["expr"], variables)
        found = scene.prometheus.ask(query, scene.at)
        values = [float(row["value"][1]) for row in found]
        assert any(map(math.isfinite, values)), query
        for row in found:
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"upstream"} <= set(row["metric"])


def test_a_single_key_can_be_chosen(scene: Seen, variables: dict[str, str]) -> None:
    panel = next(panel for panel in panels() if panel["title"] == "Budgets used")
    query = substituted(panel["targets"][0]["expr"], {**variables, "key": "(poor)"})
    (row,) = scene.prometheus.ask(query, scene.at)
    assert row["metric"] == {"key": "poor", "limit": "pages_per_month"}
    assert float(row["value"][1]) == 1.0


def test_the_variables_find_their_values(scene: Seen) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            selector = substituted(asked[1], {"job": "document-gateway"})
            values = {row["metric"][asked[2]] for row in scene.prometheus.ask(selector, scene.at)}
            assert values, variable["name"]


def test_the_annotations_can_be_asked_for(scene: Seen, variables: dict[str, str]) -> None:
    notes = [note for note in DASHBOARD["annotations"]["list"] if "expr" in note]
    assert notes
    for note in notes:
        assert note["expr"] in set(expressions())
        assert scene.prometheus.ask(substituted(note["expr"], variables), scene.at) == []  # nothing has restarted


def alert(scene: Seen, name: str) -> dict[str, Any]:
    """An alert as Prometheus has it, or nothing while it is inactive."""
    found = scene.prometheus.api("alerts")["alerts"]
    return next((one for one in found if one["labels"]["alertname"] == name), {})


def test_what_has_happened_fires(scene: Seen) -> None:
    budget = eventually(lambda: alert(scene, "GatewayBudgetNearlyUsed"), PATIENCE)
    assert budget["state"] == "firing"
    assert budget["annotations"]["summary"] == "The key poor has used 100% of pages_per_month."
    letters = eventually(lambda: alert(scene, "GatewayWebhooksGivenUp"), PATIENCE)
    assert letters["state"] == "firing"


def test_what_is_well_does_not_fire(scene: Seen) -> None:
    well = {"GatewayDown", "GatewayAbsent", "GatewayLedgerAway", "GatewayReloadFailed", "GatewayCertificateEnds"}
    firing = {one["labels"]["alertname"] for one in scene.prometheus.api("alerts")["alerts"]}
    assert not firing & well


def test_a_container_that_is_killed_is_an_alert(scene: Seen) -> None:
    """The last of this file: from here on the container is gone."""
    scene.site.container.send(SIGKILL)
    found = eventually(lambda: alert(scene, "GatewayUpstreamDown"), PATIENCE)
    assert found["state"] in {"pending", "firing"}
    assert found["labels"]["severity"] == "critical"
    assert found["annotations"]["summary"].endswith("is down.")
