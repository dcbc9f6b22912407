"""The order of a run, and what is kept of it."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from bench import report, rounds
from bench.contest import wanted
from bench.machine import Machine
from bench.options import HERE, parse
from bench.peers import Contestant, commit, imports


def test_who_goes_first_changes_with_each_round() -> None:
    assert [rounds.in_turn(["new", "old", "nginx"], number)[0] for number in (1, 2, 3)] == ["new", "nginx", "new"]


def test_samples_are_kept_by_round_and_their_medians_are_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    samples: rounds.Samples = {}
    for number, value in ((1, 5.0), (2, 1.0), (4, 3.0)):
        rounds.note(samples, number, "polls", "nginx", {"poll_cpu": value})
    assert samples == {"poll_cpu": {"nginx": {1: 5.0, 2: 1.0, 4: 3.0}}}
    assert rounds.medians(samples) == {"poll_cpu": {"nginx": 3.0}}
    assert "round 4  polls" in capsys.readouterr().out


def test_the_other_tree_goes_behind_ours_and_before_the_peers() -> None:
    plan = parse(["--compare", str(HERE), "--peers", "nginx,gateway"])
    assert [name for name, _, _ in wanted(plan)] == ["gateway", "before", "nginx"]
    assert [kind for _, kind, _ in wanted(plan)] == ["gateway", "gateway", "nginx"]
    assert [name for name, _, _ in wanted(parse(["--peers", "nginx"]))] == ["nginx"]


def test_a_gateway_is_taken_from_its_tree_and_from_nowhere_else(tmp_path: Path) -> None:
    plan = parse([])
    assert imports(plan.python, HERE)
    assert not imports(plan.python, tmp_path)


def test_a_gateway_imports_its_own_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = Contestant("before", "gateway", "python", Path("/tree"), Path("/home")).environment()
    assert environment["PYTHONPATH"] == "/tree"
    assert "PYTHONDONTWRITEBYTECODE" not in environment


def test_all_of_a_run_is_there_for_programs() -> None:
    samples = {"poll_cpu": {"gateway": {1: 30.0}, "before": {1: 40.0}, "envoy": {1: 30.0}}}
    machine = Machine(2, "a processor", "6.1", 300, 200, 60)
    whole = json.loads(report.data(samples, parse(["--compare", str(HERE)]), {"gateway": "0.1.0"}, machine))
    assert whole["figures"] == {"poll_cpu": {"gateway": 30.0, "before": 40.0, "envoy": 30.0}}
    assert whole["samples"]["poll_cpu"]["before"] == {"1": 40.0}
    assert whole["machine"]["kind"].startswith("bare metal")
    assert whole["options"]["compare"] == str(HERE)
    assert [row["verdict"] for row in whole["compared"]] == ["too few rounds"]
    assert whole["targets"] == [
        {"title": "polls: capacity relative to Envoy", "bound": 1.5, "value": 1.0, "met": False}
    ]


def test_trees_are_told_apart_by_their_commits(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t.test"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "t"]):
        subprocess.run([*git, *words], check=True)  # noqa: S603 -- commands of ours
    assert re.fullmatch(r" \([0-9a-f]{7,}\)", commit(tmp_path))
