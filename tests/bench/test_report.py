"""docs/benchmarks.md, as a run writes it."""

import re

from bench import report
from bench.machine import Machine
from bench.options import DOCS, PEERS, parse
from bench.targets import targets

FIGURES = {"poll_cpu": {"gateway": 33.0, "nginx": 16.5, "envoy": 33.0}, "token_cpu": {"gateway": 33.0}}
MACHINE = Machine(2, "AMD EPYC (x86_64)", "6.1.0", 350, 720, 1333)


def written() -> str:
    return report.document(FIGURES, parse([]), {"gateway": "0.1.0", "nginx": "1.22.1"}, MACHINE)


def test_the_page_tells_the_machine_and_the_figures() -> None:
    text = written()
    assert f"The machine: {MACHINE.told()}." in text
    assert "- nginx: 1.22.1" in text
    assert "| small poll, keep-alive: CPU | us | 33.0 (0.50) | 16.5 (1.00) | 33.0 (0.50) |" in text
    assert "| the same with a JWT: CPU | us | 33.0 | - | - |" in text
    assert "| polls: capacity relative to nginx | >= 0.5 | 0.50 | **met**, +0% |" in text


def test_the_other_tree_has_the_last_column_of_the_terminal() -> None:
    head = report.table({"poll_cpu": {"before": 1.0, "gateway": 1.0, "caddy": 1.0}}).splitlines()[0]
    assert head == "| | unit | gateway | caddy | before |"


def test_the_page_that_is_kept_has_the_words_of_the_generator() -> None:
    kept = (DOCS / "benchmarks.md").read_text()
    assert kept.partition("## How to read it")[2] == written().partition("## How to read it")[2]


def test_the_page_that_is_kept_judges_by_the_bounds_that_there_are() -> None:
    kept = (DOCS / "benchmarks.md").read_text()
    told = re.findall(r"^\| (.+) \| ([<>]= \S+) \| \S+ \| \*\*", kept, re.MULTILINE)
    assert told == [(each.title, f"{'>=' if each.at_least else '<='} {each.bound:g}") for each in targets()]


def test_the_page_says_how_each_peer_is_had() -> None:
    text = re.sub(r"[`\s]+", " ", written().lower())
    assert all(peer in text for peer in PEERS)
