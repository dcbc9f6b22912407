"""Two trees in one run: the ratio of each figure, and whether it is more than what the rounds differ by anyway."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from bench.metrics import METRICS, Metric
from bench.targets import BEFORE, GATEWAY

Samples = Mapping[str, Mapping[str, Mapping[int, float]]]  # metric -> peer -> round -> value
SURE = 0.95
FEWEST = 6  # rounds: of five, all fall on the same side of 1 by chance once in sixteen times
FEW, WITHIN, GAIN, LOSS = "too few rounds", "within the spread", "gain", "loss"


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both trees: `ratio` is the median of each round's new by old, `low` to `high` is its spread."""

    metric: Metric
    before: float
    now: float
    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def verdict(self) -> str:
        """A gain or a loss is only what lies beyond the spread, of enough rounds."""
        if self.rounds < FEWEST:
            return FEW
        if self.low <= 1 <= self.high:
            return WITHIN
        return GAIN if (self.low > 1) is self.metric.more_is_better else LOSS


def skipped(count: int) -> int:
    """How many of so many ratios may be left out at each end: between the others lies the median, in 95 of 100 runs.

    The binomial distribution of how many of them fall below the median: it assumes nothing of how they are spread.
    """
    tail, number = 0.0, -1
    while tail <= (1 - SURE) / 2 and number < count:
        number += 1
        tail += math.comb(count, number) / 2**count
    return max(0, number - 1)


def compared(metric: Metric, before: Mapping[int, float], now: Mapping[int, float]) -> Compared | None:
    """Compares one figure round by round; None where no round has both, or where they are too close to zero."""
    pairs = [(before[number], now[number]) for number in sorted(before.keys() & now.keys())]
    if not pairs or any(old <= 0 or new <= 0 for old, new in pairs):
        return None
    ratios = sorted(new / old for old, new in pairs)
    left_out = skipped(len(ratios))
    kept = ratios[left_out : len(ratios) - left_out]
    old, new = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Compared(metric, old, new, statistics.median(ratios), kept[0], kept[-1], len(ratios))


def both(samples: Samples) -> list[Compared]:
    """All figures that both trees have."""
    rows = ((metric, samples.get(metric.key, {})) for metric in METRICS)
    found = [compared(metric, row.get(BEFORE, {}), row.get(GATEWAY, {})) for metric, row in rows]
    return [row for row in found if row]


def left_out(samples: Samples) -> list[str]:
    """What was measured and can't be compared: one tree has no figure, or one that is too close to zero."""
    done = {row.metric.key for row in both(samples)}
    return [m.title for m in METRICS if m.key not in done and {BEFORE, GATEWAY} & samples.get(m.key, {}).keys()]


def line(row: Compared) -> str:
    """One figure as a row of the table."""
    metric = row.metric
    cells = [
        metric.title,
        metric.unit,
        f"{row.before:,.{metric.digits}f}",
        f"{row.now:,.{metric.digits}f}",
        f"{row.ratio:.3f}",
        f"{row.low:.3f} to {row.high:.3f}",
        said(row),
    ]
    return f"| {' | '.join(cells)} |"


def said(row: Compared) -> str:
    """The verdict, with the size of a gain or a loss."""
    return f"{row.verdict}, {row.ratio - 1:+.1%}" if row.verdict in {GAIN, LOSS} else row.verdict


def table(samples: Samples) -> str:
    """All of it, as a Markdown table."""
    head = ["| | unit | before | now | now / before | spread | |", "|---|---|---:|---:|---:|---:|---|"]
    rest = [f"not compared: {title}" for title in left_out(samples)]
    return "\n".join([*head, *map(line, both(samples)), *rest])


def as_json(row: Compared) -> dict[str, str | float]:
    """One figure for programs."""
    return {
        "key": row.metric.key,
        "title": row.metric.title,
        "unit": row.metric.unit,
        "before": row.before,
        "now": row.now,
        "ratio": row.ratio,
        "low": row.low,
        "high": row.high,
        "rounds": row.rounds,
        "verdict": row.verdict,
    }
