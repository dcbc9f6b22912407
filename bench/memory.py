"""Resident memory, each time of a peer just started: per idle connection, and under eight streams."""

import contextlib
import json
import subprocess

from bench import load
from bench.client import Errand
from bench.measures import Bout, Sample
from bench.process import NotRunningError
from bench.site import pause
from bench.usage import resident_bytes

STREAMS = 8
SAMPLE_SECONDS = 0.02


def idle(bout: Bout) -> Sample:
    """What a held connection costs, after one poll on each."""
    before = settled(bout)
    with load.sending(bout.errand("hold", bout.poll, 1, bout.options.held)) as process:
        held = first_line(process)
        growth = settled(bout) - before
    return {"idle_kb": growth / held / 1e3}


def settled(bout: Bout) -> int:
    """Resident memory after a moment's rest."""
    pause(0.5)
    return resident_bytes(bout.peer.pid)


def first_line(process: subprocess.Popen[str]) -> int:
    """Waits until the client says how many connections it holds."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise NotRunningError("the load failed: hold")
    held: int = json.loads(line)["held"]
    return held


def uploads(bout: Bout) -> Sample:
    """The highest growth while eight uploads run, two by each stream."""
    errand = bout.errand("upload", "/api/v1/marker", STREAMS, 2 * STREAMS, size=bout.options.upload_size)
    return {"uploads_mb": peak(bout, errand) / 1e6}


def downloads(bout: Bout) -> Sample:
    """The highest growth while eight downloads run, two by each stream."""
    return {"downloads_mb": peak(bout, bout.errand("download", bout.result, STREAMS, 2 * STREAMS)) / 1e6}


def peak(bout: Bout, errand: Errand) -> int:
    """How far the peer's memory rises above its start while the errand is done."""
    before = highest = settled(bout)
    with load.sending(errand) as process:
        while process.poll() is None:
            highest = max(highest, resident_bytes(bout.peer.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
    if process.returncode != 0:
        raise NotRunningError(f"the load failed: {errand.do}")
    return highest - before
