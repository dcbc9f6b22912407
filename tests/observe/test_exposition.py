"""A scrape is written in pieces, and reads as if it had been written at once."""

import re
from collections import Counter
from itertools import product

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_of
from prometheus_client.parser import text_string_to_metric_families as families_of

from gateway.model.reasons import Reason
from gateway.observe.account_metrics import AccountMetrics
from gateway.observe.collectors import ByLabel
from gateway.observe.exposition import PORTION, in_portions, write_in_pieces
from gateway.observe.metrics import RequestMetrics

LIMITS = ("rate", "concurrent", "pages_per_day", "pages_per_month", "pages_in_flight", "spend_per_month")
OPEN = "application/openmetrics-text; version=1.0.0"


def registry_of_a_thousand_keys() -> CollectorRegistry:
    accounts, requests = AccountMetrics(), RequestMetrics()
    for number in range(1100):
        accounts.pages(f"key:k{number}", 5, 1)
        accounts.set_ratios(f"key:k{number}", dict.fromkeys(LIMITS, 0.5))
        requests.refused_keys.update(
            (f"k{number}", reason) for reason in (Reason.RATE_LIMITED, Reason.UNAUTHENTICATED)
        )
        requests.refused_keys[f"k{number}", Reason.RATE_LIMITED] += 1
    registry = CollectorRegistry(auto_describe=False)
    registry.register(accounts)
    registry.register(requests)
    registry.register(ByLabel("gateway_x", 'Of "words"\nand \\ signs.', "word", Counter({"# a\n# b": 1, "é": 2})))
    return registry


@pytest.mark.parametrize("accept", ["", OPEN, f"{OPEN}; escaping=allow-utf-8"])
def test_pieces_make_a_whole_that_parses(accept: str) -> None:
    encode, _ = choose_encoder(accept)
    registry = registry_of_a_thousand_keys()
    pieces = list(write_in_pieces(registry, encode))
    text = b"".join(pieces).decode()
    assert text.count("# EOF") == (1 if accept else 0)
    assert text.endswith("# EOF\n") is bool(accept)
    families = list((open_metrics_of if accept else families_of)(text))
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples
    }
    wanted = {
        ("gateway_limit_used_ratio", (("key", f"k{number}"), ("limit", limit)))
        for number, limit in product(range(1000), LIMITS)
    }
    assert wanted <= samples
    assert ("gateway_x_total", (("word", "# a\n# b"),)) in samples
    assert max(Counter(family.name for family in families).values()) == 1
    assert max(Counter(re.findall(r"^# (?:TYPE|HELP) \S+", text, re.MULTILINE)).values()) == 1
    whole = {
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in registry.collect()
        for sample in family.samples
    }
    assert len(samples) == len(whole)


def test_no_piece_holds_more_than_a_portion() -> None:
    encode, _ = choose_encoder("")
    pieces = list(write_in_pieces(registry_of_a_thousand_keys(), encode))
    assert max(len(re.findall(rb"^[^#]", piece, re.MULTILINE)) for piece in pieces) == PORTION


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(0, [0]), (1, [1]), (PORTION, [PORTION]), (PORTION + 1, [PORTION, 1]), (3 * PORTION, [PORTION] * 3)],
)
def test_rows_fill_portions(rows: int, sizes: list[int]) -> None:
    made = list(
        in_portions(
            lambda: CounterMetricFamily("gateway_x", "Those.", labels=("a",)),
            [((str(number),), number) for number in range(rows)],
        )
    )
    assert [len(family.samples) for family in made] == sizes
    assert [sample.value for family in made for sample in family.samples] == list(range(rows))
