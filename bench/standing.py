"""A peer that nobody asks anything, just started: how soon it was ready, and what it uses then and at rest."""

import subprocess
import time

from bench.measures import Bout, Sample
from bench.process import PEER_CORE
from bench.site import pause
from bench.usage import cpu_seconds, resident_bytes

SETTLE_SECONDS = 3
SHORTEST_REST = 5


def start(bout: Bout) -> Sample:
    """From the start to the first answer through it, with all keys in the ledger, and the memory then."""
    sample = {"start_time": bout.peer.started_in * 1e3, "start_mb": resident_bytes(bout.peer.pid) / 1e6}
    return sample | help_of(bout)


def help_of(bout: Bout) -> Sample:
    """How long the command needs to say how it is used; of the gateway alone."""
    who = bout.peer.who
    if not who.is_gateway:
        return {}
    command = ["taskset", "-c", str(PEER_CORE), who.program, "-m", "gateway", "--help"]
    begun = time.monotonic()
    subprocess.run(command, env=who.environment(), cwd=who.home, capture_output=True, check=True)
    return {"help_time": (time.monotonic() - begun) * 1e3}


def rest(bout: Bout) -> Sample:
    """The share of a core that it uses with nobody there, and its memory, some seconds after its start."""
    pause(SETTLE_SECONDS)
    before, begun = cpu_seconds(bout.peer.pid), time.monotonic()
    pause(max(SHORTEST_REST, bout.options.seconds))
    used = (cpu_seconds(bout.peer.pid) - before) / (time.monotonic() - begun)
    return {"rest_cpu": used * 100, "rest_mb": resident_bytes(bout.peer.pid) / 1e6}
