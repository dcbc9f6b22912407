"""Fifty submitters at once, of one account and of fifty: the rate of submits that each engine of the ledger takes."""

from bench import load
from bench.contest import database
from bench.measures import Bout, Sample, also, prepare
from bench.peers import serving

SUBMITTERS = 50


def of_one(bout: Bout) -> Sample:
    """All with one key."""
    return on_each_engine(bout, "submits_one", 0)


def of_many(bout: Bout) -> Sample:
    """Each with a key of its own; of those that know more than one."""
    return on_each_engine(bout, "submits_many", SUBMITTERS) if bout.peer.who.knows_accounts else {}


def on_each_engine(bout: Bout, kind: str, accounts: int) -> Sample:
    """On SQLite, and on PostgreSQL where there is one; a peer has no ledger."""
    sample = submits(bout, kind, accounts)
    if bout.site.postgres is None or not bout.peer.who.is_gateway:
        return sample
    return also(sample, f"{kind}_pg", lambda: on_postgres(bout, f"{kind}_pg", accounts))


def on_postgres(bout: Bout, kind: str, accounts: int) -> Sample:
    """The same through a gateway with that ledger."""
    with serving(bout.peer.who, bout.site, ledger=database(bout.peer.who, bout.site)) as peer:
        return submits(prepare(peer, bout.site, bout.options), kind, accounts)


def submits(bout: Bout, kind: str, accounts: int) -> Sample:
    """Small forms as fast as they are answered."""
    before = bout.cpu()
    more = {"size": 2000, "accounts": accounts, "seconds": bout.options.seconds}
    done = load.send(bout.errand("upload", "/api/v1/marker", SUBMITTERS, 10_000_000, **more))
    return {f"{kind}_rate": done.count / done.seconds, f"{kind}_cpu": (bout.cpu() - before) / done.count * 1e6}
