"""The order of a run: alternating rounds over peers that all stand ready, then rounds of each one alone."""

import contextlib
import statistics
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from bench.measures import FAULTS, Sample, prepare
from bench.options import Options
from bench.peers import Contestant, serving
from bench.rows import ALONE, TIMED, Measure
from bench.site import Site
from bench.targets import Figures

T = TypeVar("T")
Samples = dict[str, dict[str, dict[int, float]]]  # metric -> peer -> round -> value
Keep = Callable[[str, str, Sample], None]  # takes a measure's name, a peer's, and what it gave


def run(options: Options, site: Site, contestants: list[Contestant]) -> Samples:
    """Measures all that was asked for."""
    samples: Samples = {}
    timed = [name for name in options.measures if name in TIMED]
    if timed:
        alternate(options, site, contestants, timed, samples)
    for number in range(1, options.rounds + 1):
        for name in [name for name in options.measures if name in ALONE]:
            for who in in_turn(contestants, number):
                by_itself(options, site, who, name, partial(note, samples, number))
    return samples


def medians(samples: Samples) -> Figures:
    """The medians of all rounds."""
    return {
        key: {peer: statistics.median(row.values()) for peer, row in rows.items()} for key, rows in samples.items()
    }


def in_turn(items: list[T], number: int) -> list[T]:
    """Who goes first changes with each round: what drifts meanwhile is to nobody's good."""
    return items if number % 2 else items[::-1]


def alternate(
    options: Options, site: Site, contestants: list[Contestant], timed: list[str], samples: Samples
) -> None:
    """Round by round and measure by measure, each peer in its turn."""
    with contextlib.ExitStack() as stack:
        bouts = [prepare(stack.enter_context(serving(who, site)), site, options) for who in contestants]
        for number in range(1, options.rounds + 1):
            for name in timed:
                for bout in in_turn(bouts, number):
                    take(name, bout.peer.who, partial(TIMED[name], bout), partial(note, samples, number))
                    bout.peer.truncate_logs()


def by_itself(options: Options, site: Site, who: Contestant, name: str, keep: Keep) -> None:
    """Figures of one peer, a new one for each."""
    for measure in ALONE[name].measures:

        def started(measure: Measure = measure) -> Sample:
            with serving(who, site) as peer:
                return measure(ALONE[name].ready(peer, site, options))

        take(name, who, started, keep)


def take(name: str, who: Contestant, measure: Callable[[], Sample], keep: Keep) -> None:
    """Takes one sample; a failure costs the sample, not the run."""
    try:
        keep(name, who.name, measure())
    except FAULTS as fault:
        print(f"           {name:14} {who.name:10} FAILED: {fault}", flush=True)


def note(samples: Samples, number: int, label: str, name: str, sample: Sample) -> None:
    """Keeps one sample, and says so."""
    for key, value in sample.items():
        samples.setdefault(key, {}).setdefault(name, {})[number] = value
    if not sample:
        return
    shown = "  ".join(f"{key} {value:.2f}" for key, value in sample.items())
    print(f"  round {number:<2} {label:14} {name:10} {shown}", flush=True)
