"""The run in words: a table for the terminal and docs/benchmarks.md."""

import dataclasses
import datetime as dt
import json
from pathlib import Path

from bench import compare
from bench.machine import Machine
from bench.metrics import METRICS, Metric
from bench.options import PEERS, Options
from bench.rounds import Samples, medians
from bench.targets import BEFORE, REFERENCE, Figures, Target, targets

TEXT = Path(__file__).parent / "configs" / "benchmarks.md"


def cell(metric: Metric, row: dict[str, float], peer: str) -> str:
    """One peer's figure, with its capacity relative to nginx behind it."""
    if peer not in row:
        return "-"
    x = metric.x(row[peer], row[REFERENCE]) if REFERENCE in row else None
    return f"{row[peer]:,.{metric.digits}f}" + ("" if x is None else f" ({x:.2f})")


def table(figures: Figures) -> str:
    """All figures, as a Markdown table."""
    peers = [peer for peer in (*PEERS, BEFORE) if any(peer in row for row in figures.values())]
    lines = [f"| | unit | {' | '.join(peers)} |", "|---|---|" + "---:|" * len(peers)]
    for metric in METRICS:
        if row := figures.get(metric.key):
            cells = " | ".join(cell(metric, row, peer) for peer in peers)
            lines.append(f"| {metric.title} | {metric.unit} | {cells} |")
    return "\n".join(lines)


def judged(target: Target, value: float, met: bool) -> str:
    """One target as a row: the promise, the value, the verdict."""
    sign, word = ">=" if target.at_least else "<=", "**met**" if met else "**missed**"
    return f"| {target.title} | {sign} {target.bound:g} | {value:.2f} | {word}, {target.margin(value):+.0%} |"


def verdicts(figures: Figures) -> str:
    """The targets that the run measured, as a Markdown table."""
    rows = [judged(target, *verdict) for target in targets() if (verdict := target.verdict(figures))]
    return "\n".join(["| target | bound | this run | |", "|---|---|---:|---|", *rows]) if rows else ""


def document(figures: Figures, options: Options, versions: dict[str, str], machine: Machine) -> str:
    """The whole of docs/benchmarks.md."""
    return TEXT.read_text().format(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine.told(),
        rounds=options.rounds,
        seconds=f"{options.seconds:g}",
        versions="\n".join(f"- {name}: {version}" for name, version in versions.items()),
        table=table(figures),
        verdicts=verdicts(figures),
    )


def data(samples: Samples, options: Options, versions: dict[str, str], machine: Machine) -> str:
    """The whole run for programs, as JSON."""
    figures = medians(samples)
    plan = dataclasses.asdict(options)
    promises = [(target, verdict) for target in targets() if (verdict := target.verdict(figures))]
    whole = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": {**dataclasses.asdict(machine), "kind": machine.kind},
        "options": plan,
        "versions": versions,
        "figures": figures,
        "samples": samples,
        "compared": [compare.as_json(row) for row in compare.both(samples)],
        "targets": [{"title": t.title, "bound": t.bound, "value": value, "met": met} for t, (value, met) in promises],
    }
    return json.dumps(whole, indent=1, default=str) + "\n"
