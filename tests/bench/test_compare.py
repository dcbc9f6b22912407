"""Two trees in one run: what counts as a gain."""

import math
import random

import pytest

from bench import compare
from bench.compare import FEW, GAIN, LOSS, WITHIN, Compared, compared
from bench.metrics import Metric

LESS = Metric("cpu", "CPU", "us")
MORE = Metric("rate", "rate", "req/s", more_is_better=True)


def by_round(*values: float) -> dict[int, float]:
    return dict(enumerate(values, 1))


def of(metric: Metric, *ratios: float) -> Compared:
    found = compared(metric, by_round(*[100.0] * len(ratios)), by_round(*[100 * ratio for ratio in ratios]))
    assert found
    return found


@pytest.mark.parametrize(
    ("metric", "ratios", "verdict"),
    [
        (LESS, [0.9, 0.91, 0.92, 0.9, 0.89, 0.99], GAIN),
        (MORE, [0.9, 0.91, 0.92, 0.9, 0.89, 0.99], LOSS),
        (LESS, [1.1, 1.2, 1.1, 1.1, 1.01, 1.2], LOSS),
        (MORE, [1.1, 1.2, 1.1, 1.1, 1.01, 1.2], GAIN),
        (LESS, [0.9, 0.91, 0.92, 0.9, 0.89, 1.01], WITHIN),
        (LESS, [0.5, 0.5, 0.5, 0.5, 0.5, 1.0], WITHIN),
        (LESS, [1.0] * 6, WITHIN),
        (LESS, [0.5] * 5, FEW),
        (LESS, [0.5], FEW),
    ],
)
def test_only_what_lies_beyond_the_spread_is_a_gain_or_a_loss(
    metric: Metric, ratios: list[float], verdict: str
) -> None:
    assert of(metric, *ratios).verdict == verdict


def test_the_spread_of_few_rounds_is_their_range_and_of_more_leaves_out_the_ends() -> None:
    few = of(LESS, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
    assert (few.low, few.high, few.ratio) == pytest.approx((0.8, 1.3, 1.05))
    many = of(LESS, 0.1, *[0.9] * 7, 9.0)
    assert (many.low, many.high, many.verdict) == (0.9, 0.9, GAIN)


@pytest.mark.parametrize("count", range(1, 21))
def test_the_spread_is_as_narrow_as_it_may_be(count: int) -> None:
    def outside(skip: int) -> float:
        return sum(math.comb(count, number) for number in range(skip + 1)) * 0.5 ** (count - 1)

    skip = compare.skipped(count)
    assert outside(skip) <= 0.05 or (skip == 0 and count < compare.FEWEST)
    assert outside(skip + 1) > 0.05


def test_trees_that_are_alike_are_hardly_ever_called_different() -> None:
    rolls = random.Random(7)  # noqa: S311 -- noise
    verdicts = [of(LESS, *[rolls.lognormvariate(0, 0.1) for _ in range(6)]).verdict for _ in range(1000)]
    assert verdicts.count(WITHIN) > 950


def test_rounds_are_paired_and_those_of_one_alone_are_left_out() -> None:
    found = compared(LESS, {1: 10.0, 2: 100.0, 3: 1.0}, {1: 5.0, 2: 50.0, 4: 7.0})
    assert found
    assert (found.rounds, found.ratio, found.before, found.now) == (2, 0.5, 55.0, 27.5)


@pytest.mark.parametrize(("before", "now"), [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0, 1.0], [1.0, -0.5])])
def test_what_has_no_ratio_is_not_compared(before: list[float], now: list[float]) -> None:
    assert compared(LESS, by_round(*before), by_round(*now)) is None


SAMPLES = {
    "poll_cpu": {"before": by_round(*[40.0] * 6), "gateway": by_round(*[30.0] * 6), "nginx": by_round(20.0)},
    "latency": {"before": by_round(3.0), "gateway": by_round(-1.0)},
    "token_cpu": {"gateway": by_round(33.0)},
    "upload_cpu": {"nginx": by_round(1.0)},
}


def test_the_table_says_each_ratio_and_names_what_has_none() -> None:
    lines = compare.table(SAMPLES).splitlines()
    assert lines[2] == ("| small poll, keep-alive: CPU | us | 40.0 | 30.0 | 0.750 | 0.750 to 0.750 | gain, -25.0% |")
    assert lines[3:] == [
        "not compared: the same with a JWT: CPU",
        "not compared: added to a single client's median poll",
    ]


def test_for_programs_there_are_the_same_facts() -> None:
    (row,) = [compare.as_json(row) for row in compare.both(SAMPLES)]
    assert {"key": "poll_cpu", "ratio": 0.75, "verdict": "gain", "rounds": 6}.items() <= row.items()
