"""`python -m bench.sizing`: what one gateway serves, by the figures of docs/benchmarks.md. It measures nothing.

docs/sizing.md has what it prints, and says what is taken for granted.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.metrics import METRICS
from bench.options import DOCS
from bench.targets import GATEWAY
from gateway.config.settings import Settings

Own = dict[str, float]  # the gateway's figure by the metric's key
SHARE: Final = 0.6  # of a core; what is beyond that is for bursts
STRANGER_KB = 200  # at most, of a connection without a key: tests/process/test_hostile_memory.py
REPLICAS_ALIVE: Final = 2  # so that one may be replaced
# docs/ledger.md: round trips of a submit at most; of an end alone (64 of one account may share them); bytes of a job.
SUBMIT_TRIPS: Final = 6
END_TRIPS: Final = 2
JOB_BYTES: Final = 245
CONNECTIONS: Final = 8
DAY: Final = 86_400
US, MS = 1e-6, 1e-3


class NoFiguresError(Exception):
    """The page is not one that `python -m bench` wrote."""


@dataclass(frozen=True, slots=True)
class Work:
    """A sort of job: sizes in MB, seconds until it has ended, polls until its result was read."""

    name: str
    document: float
    pages: int
    result: float
    seconds: float
    polls: int


WORKS: Final = (
    Work("a page, 5 s", 0.1, 1, 0.02, 5, 5),
    Work("10 pages of 2 MB, 30 s", 2, 10, 0.5, 30, 30),
    Work("500 pages of 100 MB, 10 min", 100, 500, 25, 600, 600),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a core that a job takes, by what they go to."""

    submit: float
    upload: float
    polls: float
    result: float

    @property
    def whole(self) -> float:
        """All of it."""
        return self.submit + self.upload + self.polls + self.result


def read(page: str) -> Own:
    """The gateway's figures of a page, by the keys of their metrics.

    Raises:
        NoFiguresError: there are none.
    """
    peers, rows = _table(page)
    if GATEWAY not in peers:
        raise NoFiguresError("this page has no figures of the gateway: python -m bench writes docs/benchmarks.md")
    keys = {metric.title: metric.key for metric in METRICS}
    return {keys[title]: _number(cells[peers.index(GATEWAY)]) for title, cells in rows if title in keys}


def _table(page: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The peers of the first table, and its rows: title and cells."""
    text = page.partition("\n## Figures\n")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if " | " in line]
    heads = [line for line in lines if "unit" in line]
    peers = heads[0][heads[0].index("unit") + 1 :] if heads else []
    return peers, [(line[0], line[2:]) for line in lines if len(line) == len(peers) + 2]


def _number(cell: str) -> float:
    found = re.match(r"[\d,]+(?:\.\d+)?", cell)
    return float(found[0].replace(",", "")) if found else math.nan


def cost(own: Own, work: Work) -> Cost:
    """What a job takes of a core; the first poll and the submit are on one connection, kept."""
    gigabyte = 1000.0
    return Cost(
        submit=own["submit_cpu"] * US + own["handshake_cpu"] * US,
        upload=work.document / gigabyte * own["inspected_cpu"],
        polls=work.polls * own["poll_cpu"] * US,
        result=work.result / gigabyte * own["download_cpu"],
    )


def jobs(own: Own) -> Iterator[list[str]]:
    """A row for each sort of job: what it costs, and how many one gateway serves."""
    for work in WORKS:
        spent = cost(own, work)
        rate = SHARE / spent.whole
        parts = (spent.whole, spent.submit, spent.upload, spent.polls, spent.result)
        most = Settings.model_fields["listen"].get_default(call_default_factory=True).max_connections
        clients = min(rate * work.seconds, most)
        yield [work.name, *(f"{part / MS:,.1f}" for part in parts), *map(_round, (rate, rate * work.pages, clients))]


def limits(own: Own) -> Iterator[list[str]]:
    """Where each limit of one gateway lies."""
    listen = Settings.model_fields["listen"].get_default(call_default_factory=True)
    many, taken = own["submits_many_rate"], own["submits_many_rate"] * own["submits_many_cpu"] * US
    yield ["polls a second", _round(SHARE / (own["poll_cpu"] * US)), "its core"]
    yield ["new connections a second", _round(SHARE / (own["handshake_cpu"] * US)), "its core"]
    yield ["small submits a second", _round(SHARE / (own["submit_cpu"] * US)), "its core"]
    yield ["small submits a second, 50 at once, SQLite", _round(many), f"its core, {taken:.0%} of it: measured"]
    yield ["MB a second, uploads", _round(SHARE / own["inspected_cpu"] * 1000), "its core"]
    yield ["MB a second, results", _round(SHARE / own["download_cpu"] * 1000), "its core"]
    yield ["connections", _round(listen.max_connections), "`listen.max_connections`"]
    yield ["MB for these connections, idle", _round(listen.max_connections * own["idle_kb"] / 1000), "memory"]
    yield [
        "MB for these connections, strangers who read nothing",
        _round(listen.max_connections * STRANGER_KB / 1000),
        "memory",
    ]


def containers(own: Own) -> Iterator[list[str]]:
    """What a container that converts so many pages a second asks of the gateway, and of PostgreSQL."""
    work = WORKS[1]
    for pages in (1, 10, 100, 1000):
        rate = pages / work.pages
        load = rate * cost(own, work).whole
        replicas = max(REPLICAS_ALIVE, math.ceil(load / SHARE) + 1)
        trips = rate * (SUBMIT_TRIPS + END_TRIPS)
        yield [
            f"{pages:,}",
            f"{rate:,.1f}",
            f"{load:.1%}",
            f"{replicas}",
            f"{trips:,.0f}" if trips >= 1 else f"{trips:.1f}",
            f"{(replicas + 1) * CONNECTIONS}",
            f"{rate * DAY * JOB_BYTES / 1e6:,.0f}",
        ]


def _round(value: float) -> str:
    """Two digits that mean something: more would be more than the figures know."""
    if value < 10:
        return f"{value:.1f}"
    step = 10 ** (math.floor(math.log10(value)) - 1)
    return f"{round(value / step) * step:,.0f}"


def table(heads: Iterable[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; all but its first column are numbers, but for reasons."""
    names = list(heads)
    rule = "|---|" + "---:|" * (len(names) - 1)
    return "\n".join([_line(names), rule, *map(_line, rows)])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def told(own: Own) -> str:
    """All tables, as docs/sizing.md has them."""
    return "\n\n".join(
        (
            table(
                (
                    "a job", "ms of a core", "submit", "upload", "polls", "result",
                    "jobs a second", "pages a second", "clients at once",
                ),
                jobs(own),
            ),
            table(("one gateway", "at most", "by"), limits(own)),
            table(
                (
                    "pages a second", "jobs a second", "of a core", "replicas",
                    "round trips a second", "connections", "MB a day",
                ),
                containers(own),
            ),
        )
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Prints the tables; with `--document` and the others a line for a job of yours."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("--page", type=Path, default=DOCS / "benchmarks.md", help="a page of `python -m bench`")
    parser.add_argument("--document", type=float, help="MB of a document of yours: one line for such jobs alone")
    parser.add_argument("--pages", type=int, default=10, help="its pages (10)")
    parser.add_argument("--result", type=float, default=0.5, help="MB of its result (0.5)")
    parser.add_argument("--seconds", type=float, default=30, help="until it has ended (30)")
    parser.add_argument("--polls", type=int, help="polls until its result was read (one each second)")
    given = parser.parse_args(arguments)
    own = read(given.page.read_text())
    if given.document is None:
        print(told(own))
        return
    polls = given.polls if given.polls is not None else math.ceil(given.seconds)
    work = Work("yours", given.document, given.pages, given.result, given.seconds, polls)
    spent = cost(own, work).whole
    rate = SHARE / spent
    print(f"{spent / MS:,.1f} ms of a core; {_round(rate)} jobs, {_round(rate * work.pages)} pages a second")


if __name__ == "__main__":
    try:
        main()
    except NoFiguresError as fault:
        sys.exit(str(fault))
