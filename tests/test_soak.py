"""The soak's own parts; the whole of it is run by hand: `make soak ARGS=neighbours`."""

import subprocess
import sys

import pypdfium2
import pytest

from soak.__main__ import row
from soak.attacks import ATTACKS
from soak.scene import form
from soak.slow_pdfs import long_tables, page_graph
from soak.tenant import Fared, p95


@pytest.mark.parametrize(("seconds", "expected"), [([], 0.0), ([3.0], 3.0), ([float(n) for n in range(100)], 95.0)])
def test_the_95th_of_a_hundred(seconds: list[float], expected: float) -> None:
    assert p95(seconds) == expected


def test_a_row_says_how_long_it_took_and_what_failed() -> None:
    fared = Fared([0.01] * 20, [0.1], ["poll 503", "poll 503", "submit 429 rate_limited"])
    assert row("a", fared) == "| a | 20 | 10 ms | 1 | 100 ms | 2 x poll 503, 1 x submit 429 rate_limited |"
    assert row("b", Fared()).endswith("| none |")


def test_the_page_tree_of_the_attack_is_small_and_has_many_ways_through() -> None:
    document = page_graph(100, 100, 100, 24)
    assert len(document) < 3000
    assert document.count(b" 3 0 R") + document.count(b"[3 0 R") == 100
    assert form(document).startswith(b"--soak")


@pytest.mark.parametrize("tables", [1, 3])
def test_the_long_tables_of_the_attack_are_small_and_of_a_real_page(tables: int) -> None:
    document = long_tables(50_000, tables, padding=1000)
    assert len(document) < 4000
    assert document.count(b"/XRef") == tables
    assert len(pypdfium2.PdfDocument(document)) == 1


def test_every_attack_says_what_it_is() -> None:
    assert next(iter(ATTACKS)) == "nothing"
    assert all(attack.__doc__ for attack in ATTACKS.values())


def test_a_wrong_command_says_how_it_is_used() -> None:
    ran = subprocess.run([sys.executable, "-m", "soak", "x"], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "usage: python -m soak neighbours [SECONDS]\n")
