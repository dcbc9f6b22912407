"""docs/sizing.md is what bench/sizing.py says of docs/benchmarks.md."""

import re

import pytest

from bench import sizing
from bench.options import DOCS
from bench.sizing import SHARE, NoFiguresError, Work, cost, read

OWN = {
    "submit_cpu": 3000.0,
    "handshake_cpu": 1000.0,
    "inspected_cpu": 1.0,
    "download_cpu": 0.5,
    "poll_cpu": 50.0,
    "submits_many_rate": 200.0,
    "submits_many_cpu": 4500.0,
    "idle_kb": 50.0,
}


def test_the_page_has_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    sizing.main([])
    page = (DOCS / "sizing.md").read_text()
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 3
    assert [table for table in tables if table not in page] == [], "make it anew: python -m bench.sizing"


def test_the_short_of_it_is_true() -> None:
    rows = {row[0]: row for row in sizing.containers(read((DOCS / "benchmarks.md").read_text()))}
    load = rows["100"][2]
    assert round(100 / float(load.rstrip("%"))) == 15
    assert "fifteenth of a core" in re.sub(r"\s+", " ", (DOCS / "sizing.md").read_text())


def test_the_commands_of_the_page_can_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.findall(r"^    python -m bench\.sizing (.*)$", (DOCS / "sizing.md").read_text(), re.MULTILINE)
    assert found
    for words in found:
        sizing.main(words.split())
        assert re.fullmatch(r"[\d.]+ ms of a core; .+ pages a second\n", capsys.readouterr().out)


def test_what_it_takes_from_the_page_of_the_ledger_stands_there() -> None:
    ledger = (DOCS / "ledger.md").read_text()
    assert sizing.SUBMIT_TRIPS == 6
    assert "at most six round trips" in ledger
    assert sizing.END_TRIPS == 2
    assert "are written in two round trips" in re.sub(r"\s+", " ", ledger)
    assert f"{sizing.JOB_BYTES} bytes with its indexes" in ledger
    assert f"At most {sizing.CONNECTIONS} connections for each replica" in ledger


def test_it_reads_the_gateways_column_whatever_stands_beside_it() -> None:
    page = (
        "# B\n\n## Figures\n\nIn brackets.\n\n| | unit | nginx | gateway |\n|---|---|---:|---:|\n"
        "| small poll, keep-alive: CPU | us | 16.9 (1.00) | 1,033.5 (0.51) |\n"
        "| small submit: time on one connection | us | 2,599 (1.00) | 4,685 (0.55) |\n"
        "| something new | us | 1 | 2 |\n\n## Targets\n\n| a | b |\n"
    )
    assert read(page) == {"poll_cpu": 1033.5, "submit_time": 4685.0}


def test_a_page_without_figures_is_refused() -> None:
    with pytest.raises(NoFiguresError):
        read("# Something else\n")


def test_a_job_costs_its_submit_its_bytes_and_its_polls() -> None:
    spent = cost(OWN, Work("any", document=100, pages=5, result=10, seconds=20, polls=20))
    assert spent.submit == pytest.approx(0.004)
    assert spent.upload == pytest.approx(0.1)
    assert spent.polls == pytest.approx(0.001)
    assert spent.result == pytest.approx(0.005)
    assert spent.whole == pytest.approx(0.11)


def test_a_container_that_is_busy_wants_one_replica_more_than_its_load() -> None:
    for pages, _, load, replicas, *_ in sizing.containers(OWN):
        share = float(load.rstrip("%")) / 100
        assert int(replicas) >= 2, pages
        assert (int(replicas) - 1) * SHARE >= share


def test_what_fifty_submit_at_once_is_what_was_measured() -> None:
    rows = {row[0]: row[1:] for row in sizing.limits(OWN)}
    assert rows["small submits a second, 50 at once, SQLite"] == ["200", "its core, 90% of it: measured"]


def test_clients_are_no_more_than_connections() -> None:
    cheap = {**OWN, "submit_cpu": 1.0, "handshake_cpu": 1.0, "inspected_cpu": 0.001, "download_cpu": 0.001}
    assert [row[-1] for row in sizing.jobs({**cheap, "poll_cpu": 1.0})] == ["10,000"] * 3
