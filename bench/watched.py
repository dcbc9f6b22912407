"""What a job costs from submit to result, watched as the SDK watches: CPU of proxy and container, and how late."""

import json
import subprocess
import time
from dataclasses import dataclass

from bench import load
from bench.backend import WATCHED
from bench.measures import Bout, Sample, also, prepare
from bench.peers import serving
from bench.process import NotRunningError
from bench.site import pause
from bench.usage import cpu_seconds

JOBS = 100
REST_SECONDS = 3
SETTLE_SECONDS = 0.5  # what a proxy does for a job when its client has the result
HOLD = "30s"


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds: of a clock, and of CPU that proxy and container have used."""

    at: float
    proxy: float
    container: float

    def since(self, before: "Used") -> "Used":
        """What was used meanwhile."""
        return Used(self.at - before.at, self.proxy - before.proxy, self.container - before.container)

    def beyond(self, rest: "Used") -> "Used":
        """What was used beyond that which rest uses in the same time."""
        share = self.at / rest.at
        return Used(self.at, self.proxy - rest.proxy * share, self.container - rest.container * share)


def look(bout: Bout) -> Used:
    """What was used so far."""
    return Used(time.monotonic(), bout.cpu(), cpu_seconds(bout.site.container))


def watched(bout: Bout) -> Sample:
    """Jobs of ten seconds, polled each second; through the gateway once more where it holds each poll for the end."""
    sample = named("watched", *measured(bout))
    if not bout.peer.who.is_gateway:
        return sample
    return also(sample, "held", lambda: held(bout))


def held(bout: Bout) -> Sample:
    """The same through a gateway that holds polls."""
    with serving(bout.peer.who, bout.site, hold=HOLD) as peer:
        return named("held", *measured(prepare(peer, bout.site, bout.options)))


def measured(bout: Bout) -> tuple[Used, Used, dict[str, float]]:
    """All of it, the part of it after the submits, and what the clients saw."""
    errand = bout.errand("poll", "/api/v1/marker", JOBS, JOBS, size=WATCHED)
    resting = look(bout)
    pause(REST_SECONDS)
    begun = look(bout)
    rest = begun.since(resting)
    with load.sending(errand, "bench.watching") as process:
        first_line(process)
        submitted = look(bout)
        seen = last_line(process)
    pause(SETTLE_SECONDS)
    ended = look(bout)
    return ended.since(begun).beyond(rest), ended.since(submitted).beyond(rest), seen


def named(kind: str, whole: Used, after: Used, seen: dict[str, float]) -> Sample:
    """The figures of one job: milliseconds, and questions."""
    return {
        f"{kind}_cpu": whole.proxy / JOBS * 1e3,
        f"{kind}_container_cpu": whole.container / JOBS * 1e3,
        f"{kind}_after_cpu": (after.proxy + after.container) / JOBS * 1e3,
        f"{kind}_late": seen["late"],
        f"{kind}_asked": seen["asked"],
    }


def first_line(process: subprocess.Popen[str]) -> None:
    """Waits until all jobs are submitted.

    Raises:
        NotRunningError: they can't be.
    """
    if not process.stdout or not process.stdout.readline():
        raise NotRunningError("the load failed: watching")


def last_line(process: subprocess.Popen[str]) -> dict[str, float]:
    """Waits for the end of the load, and returns what it saw.

    Raises:
        NotRunningError: it failed.
    """
    output, _ = process.communicate(timeout=load.GRACE_SECONDS)
    if process.returncode != 0:
        raise NotRunningError("the load failed: watching")
    seen: dict[str, float] = json.loads(output)
    return seen
