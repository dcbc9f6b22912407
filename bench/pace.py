"""Clients that poll at their own pace, as people's do: each sends, waits for the answer, rests, and sends again.

Run as `python -m bench.pace ERRAND`. wrk would poll as fast as it is answered: then the waits of a peer that stalls
are drowned in the many quick answers between its stalls, and the polls crowd out the uploads beside them.
"""

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bench.client import Errand, connect, exchange
from bench.site import pause

REST_SECONDS = 0.01


def waits(errand: Errand) -> list[float]:
    """Polls until the time is up and returns how long each answer took."""
    link, deadline = connect(errand), time.monotonic() + errand.seconds
    taken: list[float] = []
    exchange(link, errand)
    while len(taken) < errand.count and time.monotonic() < deadline:
        start = time.perf_counter()
        exchange(link, errand)
        taken.append(time.perf_counter() - start)
        pause(REST_SECONDS)
    return taken


def run(errand: Errand) -> dict[str, float]:
    """Polls in as many threads as the errand has streams; milliseconds."""
    with ThreadPoolExecutor(errand.streams) as pool:
        taken = [wait * 1e3 for row in pool.map(lambda _: waits(errand), range(errand.streams)) for wait in row]
    cuts = statistics.quantiles(taken, n=100)
    return {"count": len(taken), "p50": cuts[49], "p99": cuts[98]}


if __name__ == "__main__":
    print(json.dumps(run(Errand(**json.loads(sys.argv[1])))))
