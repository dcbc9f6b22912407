"""The order of a run: alternating rounds over peers that all stand ready, then memory of each one alone."""

import contextlib
import statistics
from collections.abc import Callable

from bench import memory
from bench.measures import Bout, Sample, by_name, prepare
from bench.options import Options
from bench.peers import serving
from bench.process import NotRunningError
from bench.site import Site
from bench.targets import Figures

Samples = dict[str, dict[str, list[float]]]


def run(options: Options, site: Site, programs: dict[str, str]) -> Figures:
    """Measures all that was asked for and returns the medians."""
    samples: Samples = {}
    timed = [name for name in options.measures if name != "memory"]
    if timed:
        alternate(options, site, programs, timed, samples)
    if "memory" in options.measures:
        for name, program in programs.items():
            remember(options, site, (name, program), samples)
    return {key: {peer: statistics.median(row) for peer, row in rows.items()} for key, rows in samples.items()}


def alternate(options: Options, site: Site, programs: dict[str, str], timed: list[str], samples: Samples) -> None:
    """Round by round and measure by measure, each peer in its turn."""
    with contextlib.ExitStack() as stack:
        bouts = [prepare(stack.enter_context(serving(*item, site)), site, options) for item in programs.items()]
        for number in range(1, options.rounds + 1):
            for measure in timed:
                for bout in bouts:
                    take(f"round {number} {measure}", by_name(measure), bout, samples)


def remember(options: Options, site: Site, item: tuple[str, str], samples: Samples) -> None:
    """Memory figures of one peer, a new one for each."""
    for measure in (memory.idle, memory.uploads, memory.downloads):
        with serving(*item, site) as peer:
            take("memory", measure, prepare(peer, site, options), samples)


def take(label: str, measure: Callable[[Bout], Sample], bout: Bout, samples: Samples) -> None:
    """Takes one sample, says so, and empties the peer's logs; a failure costs the sample, not the run."""
    try:
        sample = measure(bout)
    except NotRunningError as fault:
        print(f"  {label:20} {bout.peer.name:8} FAILED: {fault}", flush=True)
        return
    finally:
        bout.peer.truncate_logs()
    for key, value in sample.items():
        samples.setdefault(key, {}).setdefault(bout.peer.name, []).append(value)
    shown = "  ".join(f"{key} {value:.2f}" for key, value in sample.items())
    print(f"  {label:20} {bout.peer.name:8} {shown}", flush=True)
