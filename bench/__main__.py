"""`python -m bench`: one run, side by side; see docs/benchmarks.md for what is measured and how to read it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from types import FrameType

from bench import chart, report, rounds, site
from bench.measures import prepare
from bench.options import Options, parse
from bench.peers import binary, serving, version
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


def fill_ledger(options: Options, ground: site.Site) -> None:
    """Makes the ledger that each gateway of the run begins with."""
    print(f"a ledger with {options.keys} keys and {options.jobs} settled jobs ...", flush=True)
    command = [options.python, "-m", "bench.ledger", str(ground.folder), ground.key]
    subprocess.run([*command, str(options.keys), str(options.jobs)], check=True)


def present(options: Options, ground: site.Site) -> dict[str, str]:
    """The peers that are installed and do work, with their programs; the others are named and left out."""
    found = {name: program for name in options.peers if (program := binary(name, options.python))}
    for name in set(options.peers) - set(found):
        print(f"skipped: {name} is not installed", flush=True)
    return {name: program for name, program in found.items() if works(name, program, ground, options)}


def works(name: str, program: str, ground: site.Site, options: Options) -> bool:
    """Tries whether a peer starts and takes a job, and says why it does not."""
    try:
        with serving(name, program, ground) as peer:
            return bool(prepare(peer, ground, options))
    except (NotRunningError, OSError, HTTPException) as fault:
        print(f"skipped: {fault}", flush=True)
        return False


def write(folder: Path, document: str, picture: str) -> None:
    """Writes the page and its chart."""
    (folder / "benchmarks.md").write_text(document)
    (folder / "benchmarks.svg").write_text(picture)
    print(f"written: {folder.name}/benchmarks.md, {folder.name}/benchmarks.svg")


def main() -> None:
    """Runs what the command line asks for."""
    options = parse()
    require_load()
    settle_in()
    with (
        alone(),
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        site.opened(Path(folder), options.download_size) as ground,
    ):
        if GATEWAY in options.peers:
            fill_ledger(options, ground)
        programs = present(options, ground)
        figures = rounds.run(options, ground, programs)
    print(f"\n{report.table(figures)}\n\n{report.verdicts(figures)}")
    if options.out and {GATEWAY, REFERENCE} <= set(programs):
        versions = {name: version(name, program) for name, program in programs.items()}
        write(options.out, report.document(figures, options, versions), chart.draw(figures))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except NotRunningError as fault:
        sys.exit(str(fault))
