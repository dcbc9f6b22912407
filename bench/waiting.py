"""Clients that wait for a job's end, several for each job: `python -m bench.waiting ERRAND`, with an Errand as JSON.

`do` says how: `hold` asks once with `Prefer: wait`, `poll` asks each second, as the SDK does. Jobs come one after the
other; `streams` is how many clients wait for each. It prints one line: how long after a job's end its result was in a
client's hand, in milliseconds, and how often the container was asked in 100 ms of the job's life; means of all.
"""

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from typing import Any

from bench.client import Errand, answer, connect, submit

INTERVAL = 0.1


def ask(link: HTTPSConnection, errand: Errand, path: str) -> dict[str, Any]:
    """Asks once for a job."""
    preference = {"Prefer": "wait=20"} if errand.do == "hold" else {}
    link.request("GET", path, headers={"X-API-Key": errand.key, **preference})
    with answer(link) as response:
        said: dict[str, Any] = json.loads(response.read())
    return said


def wait(errand: Errand, path: str) -> tuple[float, dict[str, Any]]:
    """Waits for a job's end on a connection of its own: the milliseconds since then, and what was said."""
    link = connect(errand)
    while (said := ask(link, errand, path))["status"] == "processing":
        time.sleep(1)  # noqa: TID251 - what is measured
    link.close()
    return (time.time() - said["ended_at"]) * 1000, said


def one(errand: Errand, pool: ThreadPoolExecutor) -> tuple[float, float]:
    """One job and all who wait for it: mean lateness, and questions for each interval of its life."""
    link = connect(errand)
    submit(link, errand)
    with answer(link) as response:
        path = f"{errand.path}/{json.loads(response.read())['request_id']}"
    link.close()
    seen = list(pool.map(lambda _: wait(errand, path), range(errand.streams)))
    asked = max(said["asked"] / (said["took"] / INTERVAL) for _, said in seen)
    return statistics.mean(late for late, _ in seen), asked


if __name__ == "__main__":
    plan = Errand(**json.loads(sys.argv[1]))
    with ThreadPoolExecutor(plan.streams) as clients:
        rows = [one(plan, clients) for _ in range(plan.count)]
    print(
        json.dumps(
            {"late": statistics.mean(row[0] for row in rows), "asked": statistics.mean(row[1] for row in rows)}
        )
    )
