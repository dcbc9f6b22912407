"""Rules, alerts and their unit tests in deploy/prometheus, by Prometheus' own tool; nothing is forgotten."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.model.reasons import VERDICTS, Reason, Source
from tests.support.alertrules import ALERTS, GROUPS, PROMETHEUS, RECORDED, alone
from tests.support.monitoring import needs_prometheus
from tests.support.process import ROOT

TESTS: Final = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOKS: Final = (ROOT / "docs/monitoring.md").read_text()
PATIENCE: Final = 100.0


def promtool(*words: str) -> str:
    """What it says; it must be content."""
    done = subprocess.run(  # noqa: S603
        ["promtool", *words],  # noqa: S607 -- found on the PATH
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "GOGC": "400"},  # it collects garbage for a fifth of its time, and ends soon
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_prometheus
def test_the_configuration_and_its_rules_are_sound(tmp_path: Path) -> None:
    made = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, made)
    (made / "token").write_text("made-up-token-of-the-admin")
    said = promtool("check", "config", str(made / "prometheus.yml"))
    assert "2 rule files found" in said
    assert not re.search(r"warn|duplicate|fail", said, re.IGNORECASE)
    assert "SUCCESS" in promtool(
        "check", "rules", "--lint=all", "--lint-fatal", *map(str, (made / "rules").glob("*"))
    )


@needs_prometheus
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_unit_tests_say(path: Path, tmp_path: Path) -> None:
    files = alone(path, tmp_path)
    assert promtool("test", "rules", *map(str, files)).count("SUCCESS") == len(files)


@needs_prometheus
def test_a_file_of_unit_tests_can_be_run_as_it_stands() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(PROMETHEUS / "tests/certificates.yml"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_unit_tests_are_of_the_rules_that_are_shipped(path: Path) -> None:
    named = [(path.parent / file).resolve() for file in yaml.safe_load(path.read_text())["rule_files"]]
    assert set(named) <= {PROMETHEUS / f"rules/{name}.yml" for name in GROUPS}


def test_every_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    fires, stays = set[str](), set[str]()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for alert in case.get("alert_rule_test", ()):
                assert case["name"].startswith(alert["alertname"]), "a test is named after its alert"
                assert case["input_series"], "an alert without data proves nothing"
                (fires if alert["exp_alerts"] else stays).add(alert["alertname"])
    assert fires == stays == set(ALERTS)


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_is_and_where_its_runbook_stands(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/monitoring.md#{anchor_of(name)}"
    runbook = RUNBOOKS.partition(f"\n### {name}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    for part in ("**Means.**", "**Users see.**", "**Look first.**", "**Do.**"):
        assert part in runbook, part
    assert f"*{rule['labels']['severity']}*" in runbook


def test_there_is_no_runbook_of_an_alert_that_is_gone() -> None:
    assert re.findall(r"^### (Gateway\w+)$", RUNBOOKS, re.MULTILINE) == list(ALERTS)


def test_every_recorded_name_is_told_of() -> None:
    names = {re.sub(r"(ratio_rate|rate)\d+[mhd]$", r"\1", rule["record"]) for rule in RECORDED}
    told = {
        re.sub(r"(ratio_rate|rate)\d*[mhd]?$", r"\1", name)
        for name in re.findall(r"^\| `(gateway:[\w:]+)", RUNBOOKS, re.MULTILINE)
    }
    assert told == names


def source_of(status: str, reason: str) -> list[str]:
    """The sources that the rules count such a request in, by the selectors as they stand."""
    return [
        rule["labels"]["source"]
        for rule in RECORDED
        if rule["record"] == "gateway:requests:rate5m"
        for selector in re.findall(r"gateway_requests_total\{([^}]*)\}", rule["expr"])
        if selects(selector, {"status": status, "reason": reason})
    ]


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Whether a selector of PromQL fits, whose patterns are anchored."""
    parts = re.findall(r'(\w+)(!?)(=~?|~)"([^"]*)"', selector)
    assert parts
    return all(
        (re.fullmatch(text if "~" in operator else re.escape(text), labels[name]) is None) is bool(negated)
        for name, negated, operator, text in parts
    )


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_in_exactly_one_source(reason: Reason) -> None:
    if reason is Reason.FORWARDED:
        for status, source in (
            ("200", "none"),
            ("302", "none"),
            ("404", "client"),
            ("429", "client"),
            ("500", "upstream"),
        ):
            assert source_of(status, reason) == [source], status
        return
    verdict = VERDICTS[reason]
    expected = "none" if reason is Reason.ANSWERED else verdict.source.value
    # Midway the status that was sent already stays, whatever becomes of the answer.
    for status in {str(verdict.status), "200"}:
        assert source_of(status, reason) == [expected], status


def test_the_sources_are_those_of_the_gateway() -> None:
    used = {rule["labels"]["source"] for rule in RECORDED if rule["record"] == "gateway:requests:rate5m"}
    assert used == {"none", *map(str, Source)}


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\bgateway_[a-z_]+\b", expression))


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    known = set(re.findall(r"^\| `(gateway_\w+)`", text, re.MULTILINE))
    rules: list[dict[str, Any]] = [*RECORDED, *ALERTS.values()]
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for rule in rules for name in metrics_of(rule["expr"])}
    assert asked <= known


def test_the_kubernetes_object_has_the_same_rules() -> None:
    """The Prometheus Operator takes rules from objects of its own."""
    text = (PROMETHEUS / "prometheusrule.yaml").read_text()
    script = str(PROMETHEUS / "prometheusrule.py")
    written = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE, check=True)  # noqa: S603
    assert written.stdout == text, "make it anew: python deploy/prometheus/prometheusrule.py"
    made = yaml.safe_load(text)
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert made["spec"]["groups"] == [*GROUPS["recording"], *GROUPS["alerts"]]
