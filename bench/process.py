"""Starts processes on their cores and makes sure that none outlives the run."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PEER_CORE = 0
STOP_SECONDS = 5


class NotRunningError(RuntimeError):
    """A process did not start, or did not do what it was started for."""


def other_cores() -> set[int]:
    """The cores of load, backend and harness: all but the peer's."""
    cores = set(range(os.cpu_count() or 1)) - {PEER_CORE}
    if not cores:
        raise NotRunningError("two cores are needed: one for the peer, one for load and backend")
    return cores


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Lets one bench at a time measure on this machine; another waits, for its peers use the same core."""
    lock = Path(tempfile.gettempdir()) / "document-gateway-bench.lock"
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another bench is running here: waiting for its end", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def running(
    command: list[str],
    log: Path,
    core: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a process group of its own, its output appended to the log; ends the group on exit."""
    pinned = command if core is None else ["taskset", "-c", str(core), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, env=env, cwd=cwd
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group: first by asking, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
