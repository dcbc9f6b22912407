"""The order of a run: alternating rounds over peers that all stand ready, then rounds of each one alone."""

import contextlib
import statistics
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from bench import memory
from bench.measures import Sample, by_name, prepare
from bench.options import Options
from bench.peers import Contestant, Peer, serving
from bench.process import NotRunningError
from bench.site import Site
from bench.targets import Figures

T = TypeVar("T")
Samples = dict[str, dict[str, dict[int, float]]]  # metric -> peer -> round -> value
Keep = Callable[[str, str, Sample], None]  # takes a measure's name, a peer's, and what it gave
ALONE = ("memory",)


def run(options: Options, site: Site, contestants: list[Contestant]) -> Samples:
    """Measures all that was asked for."""
    samples: Samples = {}
    timed = [name for name in options.measures if name not in ALONE]
    if timed:
        alternate(options, site, contestants, timed, samples)
    for number in range(1, options.rounds + 1):
        for measure in [name for name in options.measures if name in ALONE]:
            for who in in_turn(contestants, number):
                by_itself(options, site, who, measure, partial(note, samples, number))
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
            for measure in timed:
                for bout in in_turn(bouts, number):
                    take(measure, bout.peer, partial(by_name(measure), bout), partial(note, samples, number))


def by_itself(options: Options, site: Site, who: Contestant, name: str, keep: Keep) -> None:
    """Figures of one peer, a new one for each."""
    for measure in (memory.idle, memory.uploads, memory.downloads):
        with serving(who, site) as peer:
            take(name, peer, partial(measure, prepare(peer, site, options)), keep)


def take(label: str, peer: Peer, measure: Callable[[], Sample], keep: Keep) -> None:
    """Takes one sample and empties the peer's logs; a failure costs the sample, not the run."""
    try:
        keep(label, peer.who.name, measure())
    except NotRunningError as fault:
        print(f"          {label:16} {peer.who.name:10} FAILED: {fault}", flush=True)
    finally:
        peer.truncate_logs()


def note(samples: Samples, number: int, label: str, name: str, sample: Sample) -> None:
    """Keeps one sample, and says so."""
    for key, value in sample.items():
        samples.setdefault(key, {}).setdefault(name, {})[number] = value
    shown = "  ".join(f"{key} {value:.2f}" for key, value in sample.items())
    print(f"  round {number:<2} {label:16} {name:10} {shown}", flush=True)
