"""Clients that each have a job and watch it to its end, as the SDK does: `python -m bench.watching ERRAND`.

Each submits on a connection of its own, asks at once and then each second; `streams` is how many there are. Two lines
of JSON are printed: when all have submitted, and at the end how long after a job's end its result was in its client's
hand, in milliseconds, and how often the container was asked for a job; means of all.
"""

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection

from bench.client import Errand, answer, connect, submit
from bench.site import pause
from bench.waiting import ask

SPREAD_SECONDS = 1.0
EACH = 1.0


def begin(errand: Errand, number: int, start: float) -> tuple[HTTPSConnection, str]:
    """Submits in its turn, so that not all come at once, and returns where to ask."""
    pause(max(0.0, start + number * SPREAD_SECONDS / errand.streams - time.monotonic()))
    link = connect(errand)
    submit(link, errand)
    with answer(link) as response:
        return link, f"{errand.path}/{json.loads(response.read())['request_id']}"


def watch(errand: Errand, link: HTTPSConnection, path: str) -> tuple[float, float]:
    """Asks until the job has ended: how late that was known, and how often the container was asked."""
    while (said := ask(link, errand, path))["status"] == "processing":
        pause(EACH)
    late = (time.time() - said["ended_at"]) * 1000
    link.close()
    return late, said["asked"]


def run(errand: Errand) -> dict[str, float]:
    """Watches one job for each stream."""
    start = time.monotonic()
    with ThreadPoolExecutor(2 * errand.streams) as pool:
        begun = [pool.submit(begin, errand, number, start) for number in range(errand.streams)]
        seen = [pool.submit(lambda job: watch(errand, *job.result()), job) for job in begun]
        for job in begun:
            job.result()
        print(json.dumps({"submitted": len(begun)}), flush=True)
        rows = [watching.result() for watching in seen]
    return {"late": statistics.mean(row[0] for row in rows), "asked": statistics.mean(row[1] for row in rows)}


if __name__ == "__main__":
    print(json.dumps(run(Errand(**json.loads(sys.argv[1])))))
