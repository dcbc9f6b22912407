"""`python -m bench`: one run, side by side; see docs/benchmarks.md for what is measured and how to read it."""

import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from bench import chart, compare, postgres, report, rounds, site
from bench.contest import contestants
from bench.machine import Machine, look
from bench.options import Options, parse
from bench.peers import version
from bench.process import NotRunningError, alone, other_cores
from bench.targets import GATEWAY, REFERENCE


def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    """Turns a termination into an exit that unwinds: all children end with their blocks."""
    raise SystemExit(128 + number)


def settle_in() -> None:
    """Leaves the peer's core, allows many connections, and heeds termination."""
    os.sched_setaffinity(0, other_cores())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, stop)


def require_load() -> None:
    """Looks for what makes the load, before anything is begun.

    Raises:
        NotRunningError: it is not installed.
    """
    if shutil.which("wrk") is None:
        raise NotRunningError("wrk is not installed, which makes the load; on Debian: apt install wrk nginx haproxy")


def write(folder: Path, document: str, picture: str) -> None:
    """Writes the page and its chart."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(document)
    (folder / "benchmarks.svg").write_text(picture)
    print(f"written: {folder.name}/benchmarks.md, {folder.name}/benchmarks.svg")
    print("docs/sizing.md stands on these figures: python -m bench.sizing prints its tables anew")


def main() -> None:
    """Runs what the command line asks for."""
    options = parse()
    require_load()
    machine = look()
    settle_in()
    with (
        alone(),
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        postgres.opened(wanted=options.wants_postgres) as database,
        site.opened(Path(folder), options.download_size, options.keys, database) as ground,
    ):
        found = contestants(options, ground)
        samples = rounds.run(options, ground, found)
    say(samples, options, {who.name: version(who) for who in found}, machine)


def say(samples: rounds.Samples, options: Options, versions: dict[str, str], machine: Machine) -> None:
    """Prints what came out, and writes what is to be written."""
    figures = rounds.medians(samples)
    print(f"\n{machine.told()}\n\n{report.table(figures)}\n\n{report.verdicts(figures)}")
    if options.compare:
        print(f"\n{compare.table(samples)}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(report.data(samples, options, versions, machine))
    if options.out and {GATEWAY, REFERENCE} <= set(versions):
        write(options.out, report.document(figures, options, versions, machine), chart.draw(figures))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except NotRunningError as fault:
        sys.exit(str(fault))
