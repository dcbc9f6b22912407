"""What a run leaves behind."""

import json
from pathlib import Path

import pytest

from bench.__main__ import say
from bench.machine import Machine
from bench.options import HERE, parse

SAMPLES = {"poll_cpu": {peer: dict.fromkeys(range(1, 7), 1.0) for peer in ("gateway", "before", "nginx")}}
MACHINE = Machine(2, "a processor", "6.1", 300, 200, 60)


def test_all_is_printed_and_written_wherever_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, data = tmp_path / "not" / "yet", tmp_path / "there" / "run.json"
    plan = parse(["--compare", str(HERE), "--peers", "gateway,nginx", "--out", str(page), "--json", str(data)])
    say(SAMPLES, plan, {"gateway": "1", "before": "1", "nginx": "1"}, MACHINE)
    printed = capsys.readouterr().out
    assert "| small poll, keep-alive: CPU | us | 1.0 | 1.0 | 1.000 | 1.000 to 1.000 | within the spread |" in printed
    assert MACHINE.told() in printed
    assert json.loads(data.read_text())["compared"][0]["verdict"] == "within the spread"
    assert {path.name for path in page.iterdir()} == {"benchmarks.md", "benchmarks.svg"}


def test_nothing_is_written_that_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    say(SAMPLES, parse(["--quick"]), {"gateway": "1", "nginx": "1"}, MACHINE)
    assert not list(tmp_path.iterdir())
