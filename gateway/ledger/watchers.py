"""Which replica watches which jobs: heartbeats, and failover; each function is one transaction.

A job has one watcher: the replica that took its submit, or one that took it over, because the watcher was silent or
because one of its own clients has a long poll on the job.
"""

from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, exists, insert, select, update

from gateway.ledger.jobs import KEY, MOST, RUNS, any_of
from gateway.ledger.row_portions import read_in_portions
from gateway.ledger.schema import jobs, replicas
from gateway.ledger.statement import Statement
from gateway.model.jobs import JobRef
from gateway.units import milliseconds

LIVES_FOR: Final = 15  # seconds after its latest heartbeat
MAX_TAKEN: Final = 200

_IS_ALIVE: Final = replicas.c.alive_until > bindparam("now")
_WATCHED: Final = exists().where(replicas.c.name == jobs.c.watcher, _IS_ALIVE)
_LEFT: Final = Statement(
    select(jobs)
    .where(RUNS, jobs.c.watcher != bindparam("me"), ~_WATCHED)
    .order_by(jobs.c.created_at)
    .limit(MOST)
    .with_for_update(skip_locked=True)
)
_OTHERS: Final = Statement(select(replicas.c.name).where(replicas.c.name != bindparam("me"), _IS_ALIVE).limit(1))
_BEAT: Final = Statement(
    update(replicas).where(replicas.c.name == bindparam("me")).values(alive_until=bindparam("until"))
)
_SILENT: Final = Statement(delete(replicas).where(replicas.c.alive_until < bindparam("before")))


def beat(connection: Connection, me: str, now: float, until: float) -> None:
    """Writes a replica's heartbeat, and deletes replicas that have been silent for an hour."""
    if not _BEAT.run(connection, me=me, until=int(until)):
        connection.execute(insert(replicas), {"name": me, "alive_until": int(until)})
    _SILENT.run(connection, before=int(now) - 3600)


def has_others(connection: Connection, me: str, now: float) -> bool:
    """Whether other replicas live, or did until a moment ago."""
    return _OTHERS.first(connection, me=me, now=int(now) - LIVES_FOR) is not None


def has_living(connection: Connection, now: float) -> bool:
    """Whether a gateway uses this ledger: its heartbeat is not over."""
    return _OTHERS.first(connection, me="", now=int(now)) is not None


def leave(connection: Connection, me: str) -> None:
    """Removes a replica that ends: others may take over its jobs at once."""
    connection.execute(delete(replicas).where(replicas.c.name == me))


def take_over(connection: Connection, me: str, now: float) -> list[Row[Any]]:
    """Takes over jobs without a living watcher (failover), a batch at a time; returns them, the oldest first.

    The former watcher sees the change: it may be alive and only have lost the ledger. However many they are, it is
    two or three statements: the ledger may be far away.
    """
    found = _LEFT.all(connection, me=me, now=int(now), most=MAX_TAKEN)
    if not found:
        return []
    # If another replica took a row between the select and the lock, PostgreSQL does not check again which replicas
    # live. The update checks again, on locked rows.
    take = update(jobs).where(any_of(found), ~_WATCHED).values(watcher=me, changed_at=milliseconds(now))
    if connection.execute(take, {"now": int(now)}).rowcount == len(found):
        return found
    mine = select(jobs.c.reservation).where(any_of(found), jobs.c.watcher == me)
    taken = set(connection.execute(mine).scalars())
    return [row for row in found if row.reservation in taken]


def adopt(connection: Connection, job: JobRef, me: str, now: float) -> None:
    """Takes over one job from its watcher, which sees the change."""
    this = KEY & (jobs.c.reservation == bindparam("of"))
    mine = update(jobs).where(this, RUNS).values(watcher=me, changed_at=milliseconds(now))
    connection.execute(mine, {"at": job.upstream, "named": job.request_id, "of": job.reservation})


def followed_by(connection: Connection, me: str, before: float | None = None) -> list[JobRef]:
    """The running jobs whose watcher is this replica; only those that began before a moment, if one is given."""
    query = select(jobs.c.upstream, jobs.c.request_id, jobs.c.reservation).where(RUNS, jobs.c.watcher == me)
    if before is not None:
        query = query.where(jobs.c.created_at < int(before))
    return [JobRef(row.upstream, row.request_id, row.reservation) for row in read_in_portions(connection, query)]
