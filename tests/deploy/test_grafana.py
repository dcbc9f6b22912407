"""The dashboard in deploy/grafana is what Grafana can load; test_scraped.py runs its queries."""

import json
import re
from itertools import combinations
from typing import Any, Final

import pytest
import yaml

from tests.support.dashboard import DASHBOARD, GRAFANA, expressions, panels, rows

ROWS: Final = (
    "Now",
    "Traffic",
    "Errors by reason and source",
    "Latency",
    "Keys and budgets",
    "Jobs",
    "Webhooks",
    "Certificates, connections, configuration",
)
COLUMNS: Final = 24
# What Grafana 11 writes; newer ones migrate it when they load it.
SCHEMA: Final = 39
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def test_it_is_one_dashboard_with_an_identity_of_its_own() -> None:
    assert (DASHBOARD["title"], DASHBOARD["uid"], DASHBOARD["id"]) == ("Document gateway", "document-gateway", None)
    assert DASHBOARD["schemaVersion"] == SCHEMA
    assert {"templating", "time", "panels", "annotations", "refresh", "version"} <= set(DASHBOARD)


def test_its_rows_are_those_that_operators_look_for() -> None:
    assert tuple(row["title"] for row in rows()) == ROWS


def test_ids_are_unique() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_titles_are_unique() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)


def test_no_panel_lies_on_another_or_beside_the_grid() -> None:
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert set(place) == {"x", "y", "w", "h"}
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
        assert place["w"] > 0
        assert place["h"] > 0
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not overlap(one["gridPos"], other["gridPos"]), f"{one['title']}, {other['title']}"


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not beside and not below


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["datasource"] == DATASOURCE
    assert panel["type"] in {"timeseries", "stat", "bargauge", "heatmap"}
    unit = panel["options"]["yAxis"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]
    assert unit["unit"]
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["datasource"] == DATASOURCE
        assert target["legendFormat"]
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]


def test_its_variables_are_those_that_its_queries_use() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "key"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    used = {name for expression in expressions() for name in re.findall(r"\$(\w+)", expression)}
    assert used == {*variables, "__rate_interval"} - {"datasource"}


def test_every_label_of_a_legend_is_one_that_its_query_leaves() -> None:
    for panel in panels():
        for target in panel["targets"]:
            kept = re.search(r"\b(?:by|bool) \(([^)]*)\)", target["expr"])
            # histogram_quantile takes `le` away; a recorded ratio keeps job and source
            labels = {label.strip() for label in kept[1].split(",")} if kept else {"job", "source"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, panel["title"]


def test_no_address_of_a_server_is_in_it() -> None:
    text = json.dumps(DASHBOARD)
    assert not re.search(r"https?://", text)


def test_the_provisioning_files_name_what_is_there() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/gateway.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
