"""Who takes part in a run: which peers are installed and do work, and what each gateway begins with."""

import subprocess
from pathlib import Path

from bench.measures import FAULTS, prepare
from bench.options import HERE, Options
from bench.peers import Contestant, binary, serving
from bench.postgres import make_database, url
from bench.process import NotRunningError
from bench.site import Site
from bench.targets import BEFORE, GATEWAY

KEYS_ON_POSTGRES = 100
LEDGER = Path(__file__).parent / "ledger.py"


def contestants(options: Options, site: Site) -> list[Contestant]:
    """Those that are installed and do work; the others are named and left out."""
    found = [who for name, kind, tree in wanted(options) if (who := installed(name, kind, tree, options, site))]
    return [who for who in found if works(who, site, options)]


def wanted(options: Options) -> list[tuple[str, str, Path]]:
    """Name, kind and tree of all that the command line asks for."""
    before = [(BEFORE, GATEWAY, options.compare)] if options.compare else []
    ours = [(name, name, HERE) for name in options.peers]
    return ours[:1] + before + ours[1:]


def installed(name: str, kind: str, tree: Path, options: Options, site: Site) -> Contestant | None:
    """The contestant, if its program is here."""
    program = binary(kind, options.python, tree)
    if program is None:
        print(f"skipped: {name} is not installed", flush=True)
        return None
    return Contestant(name, kind, program, tree, site.folder / name)


def works(who: Contestant, site: Site, options: Options) -> bool:
    """Tries whether a peer starts and takes a job, and says why it does not."""
    try:
        if who.is_gateway:
            furnish(who, site, options)
        with serving(who, site) as peer:
            return bool(prepare(peer, site, options))
    except FAULTS as fault:
        print(f"skipped: {fault}", flush=True)
        return False


def furnish(who: Contestant, site: Site, options: Options) -> None:
    """Makes the ledger that a gateway begins with each time, by its own code, and a token that it lets in."""
    print(f"{who.name}: a ledger with {options.keys} keys and {options.jobs} settled jobs ...", flush=True)
    who.home.mkdir()
    fill(who, site, f"sqlite:///{who.home / 'ledger.db'}", options.keys, options.jobs)
    if site.postgres is not None:
        print(f"{who.name}: the same on PostgreSQL, with {KEYS_ON_POSTGRES} keys ...", flush=True)
        make_database(site.postgres, who.name)
        fill(who, site, database(who, site), KEYS_ON_POSTGRES, 0)


def database(who: Contestant, site: Site) -> str:
    """The URL of a gateway's ledger on PostgreSQL."""
    return url(site.postgres, who.name) if site.postgres else ""


def fill(who: Contestant, site: Site, where: str, keys: int, jobs: int) -> None:
    """Fills a ledger by a gateway's own code.

    Raises:
        NotRunningError: it could not be filled.
    """
    filling = [who.program, "-P", str(LEDGER), str(who.home), site.key, str(keys), str(jobs), where]
    done = subprocess.run(filling, env=who.environment(), capture_output=True, text=True, check=False, cwd=who.home)
    if done.returncode != 0:
        raise NotRunningError(f"{who.name}: no ledger could be made: {done.stderr[-300:]}")
