"""What one run measures, of whom, and how long: the command line as a frozen value."""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from bench.targets import GATEWAY

PEERS = ("gateway", "nginx", "nginx-auth", "haproxy", "envoy", "caddy")
MEASURES = (
    "polls", "tokens", "submits", "uploads", "inspected", "downloads", "handshakes", "resumed", "latency", "mixed",
    "waits", "watched", "submits-one", "submits-many", "memory", "start", "rest",
)  # fmt: skip
LEDGER_MEASURES = frozenset({"submits-one", "submits-many"})
HERE = Path(__file__).resolve().parent.parent
DOCS = HERE / "docs"
ROUNDS, ROUNDS_COMPARED, MAX_ROUNDS = 3, 6, 20
FEWEST_KEYS = 60  # that of the bench, and those of fifty submitters


@dataclass(frozen=True, slots=True)
class Options:
    """The plan of a run; sizes are bytes."""

    peers: tuple[str, ...]
    measures: tuple[str, ...]
    rounds: int
    seconds: float
    transfers: int
    held: int
    python: str
    out: Path | None
    upload_size: int = 100_000_000
    download_size: int = 50_000_000
    keys: int = 10_000
    jobs: int = 1_000_000
    compare: Path | None = None
    json: Path | None = None

    @property
    def complete(self) -> bool:
        """Whether the run measures everything of everyone: only such a run is written down."""
        return set(self.peers) == set(PEERS) and set(self.measures) == set(MEASURES) and self.compare is None

    @property
    def wants_postgres(self) -> bool:
        """Whether something is measured on a ledger that is on PostgreSQL, too."""
        return GATEWAY in self.peers and not LEDGER_MEASURES.isdisjoint(self.measures)


def parse(arguments: list[str] | None = None) -> Options:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--peers", help=f"of {','.join(PEERS)} (all; with --compare: {GATEWAY})")
    parser.add_argument("--only", default=",".join(MEASURES), help=f"of {','.join(MEASURES)}")
    rounds = f"({ROUNDS}; {ROUNDS_COMPARED} with --compare; 1 with --quick)"
    parser.add_argument("--rounds", type=int, help=f"alternating rounds; medians are reported {rounds}")
    parser.add_argument("--seconds", type=float, help="of each timed measure (4; 1 with --quick)")
    parser.add_argument("--jobs", type=int, help="settled jobs in the ledger (1000000; none with --quick)")
    parser.add_argument("--keys", type=int, help="keys in the ledger (10000; 60 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a rough look: one short round; not written down")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the gateway")
    parser.add_argument("--out", type=Path, help=f"where the report goes (a complete run: {DOCS.name}/)")
    parser.add_argument("--compare", type=Path, metavar="TREE", help="another tree; its gateway runs beside ours")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all samples and figures go, for programs")
    return options(parser, parser.parse_args(arguments))


def options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    """Checks the names and fills in what depends on --quick and --compare."""
    everyone = GATEWAY if given.compare else ",".join(PEERS)
    peers, measures = tuple((given.peers or everyone).split(",")), tuple(given.only.split(","))
    for name in (*set(peers) - set(PEERS), *set(measures) - set(MEASURES)):
        parser.error(f"unknown name: {name}")
    check_tree(parser, given.compare, peers)
    few = 1 if given.quick else ROUNDS_COMPARED if given.compare else ROUNDS
    plan = Options(
        peers=tuple(name for name in PEERS if name in peers),
        measures=tuple(name for name in MEASURES if name in measures),
        rounds=min(given.rounds or few, MAX_ROUNDS),
        seconds=min(given.seconds or (1 if given.quick else 4), 60),
        transfers=6 if given.quick else 12,
        held=250 if given.quick else 1000,
        python=given.python,
        out=given.out,
        keys=max(FEWEST_KEYS, given.keys if given.keys is not None else FEWEST_KEYS if given.quick else 10_000),
        jobs=given.jobs if given.jobs is not None else 0 if given.quick else 1_000_000,
        compare=given.compare and given.compare.resolve(),
        json=given.json,
    )
    return plan if given.out or given.quick or not plan.complete else replace(plan, out=DOCS)


def check_tree(parser: argparse.ArgumentParser, tree: Path | None, peers: tuple[str, ...]) -> None:
    """Refuses a comparison with nothing, or of nothing."""
    if tree is not None and not (tree / "gateway" / "__main__.py").is_file():
        parser.error(f"no gateway is in {tree}")
    if tree is not None and GATEWAY not in peers:
        parser.error(f"--compare wants {GATEWAY} among --peers")
