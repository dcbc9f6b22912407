"""Sends the load at a peer from the other core: wrk for small requests, our own client for the rest."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from bench.client import Errand
from bench.process import NotRunningError
from bench.site import CONFIGS

GRACE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Polled:
    """What wrk saw; times in microseconds."""

    requests: int
    microseconds: int
    p50: int
    p99: int
    failed: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.microseconds * 1e6


def environment() -> dict[str, str]:
    """The environment of the load: one TLS group and cipher for all peers."""
    return os.environ | {"OPENSSL_CONF": str(CONFIGS / "openssl.cnf")}


def polls(url: str, key: str, connections: int, seconds: float) -> Polled:
    """Polls on keep-alive connections for that long; any answer but a good one is an error."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(CONFIGS / "wrk.lua")]
    done = subprocess.run(
        [*command, "-H", f"X-API-Key: {key}", url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=seconds + GRACE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise NotRunningError(f"wrk failed: {done.stderr[-300:]}")
    seen = Polled(**json.loads(done.stdout.rpartition("JSON ")[2]))
    if seen.failed or not seen.requests:
        raise NotRunningError(f"{seen.failed} of {seen.requests} polls failed")
    return seen


def paced(errand: Errand) -> dict[str, float]:
    """Polls at a client's pace: count, and p50 and p99 of the waits in milliseconds."""
    command = [sys.executable, "-m", "bench.pace", json.dumps(dataclasses.asdict(errand))]
    done = subprocess.run(
        command, env=environment(), capture_output=True, timeout=errand.seconds + GRACE_SECONDS, check=False
    )
    if done.returncode != 0:
        raise NotRunningError(f"the load failed: {done.stderr.decode()[-300:]}")
    waits: dict[str, float] = json.loads(done.stdout)
    return waits


def waiting(errand: Errand) -> dict[str, float]:
    """Waits for jobs: how late their results came, and how often the container was asked."""
    command = [sys.executable, "-m", "bench.waiting", json.dumps(dataclasses.asdict(errand))]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=GRACE_SECONDS, check=False)
    if done.returncode != 0:
        raise NotRunningError(f"the load failed: {done.stderr.decode()[-300:]}")
    seen: dict[str, float] = json.loads(done.stdout)
    return seen


def client(errand: Errand, module: str = "bench.client") -> list[str]:
    """The command line of an errand; it gives way to those whose waiting times are measured on the same core."""
    return ["nice", "-n", "19", sys.executable, "-m", module, json.dumps(dataclasses.asdict(errand))]


@dataclass(frozen=True, slots=True)
class Done:
    """What an errand has done."""

    count: int
    bytes: int
    seconds: float


def send(errand: Errand) -> Done:
    """Does an errand to its end."""
    with sending(errand) as process:
        return outcome(errand, process)


def outcome(errand: Errand, process: subprocess.Popen[str]) -> Done:
    """Waits for the end of an errand."""
    output, _ = process.communicate(timeout=errand.seconds + GRACE_SECONDS)
    if process.returncode != 0:
        raise NotRunningError(f"the load failed: {errand.do} {errand.path}")
    return Done(**json.loads(output.splitlines()[-1]))


@contextlib.contextmanager
def sending(errand: Errand, module: str = "bench.client") -> Iterator[subprocess.Popen[str]]:
    """Does an errand beside the block; what is left of it ends with the block."""
    process = subprocess.Popen(
        client(errand, module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
