"""The jobs of the ledger: whose they are, who follows them, what became of them; each function is one transaction.

    begin ──> learn ──> forget ──> deleted       an id is its owner's from before its client sees it until it is
      └───────────────────┘                      forgotten; from then on it is nobody's

A job has one watcher: the replica that took its submit, or one that took it over because the watcher was silent, or
because a client of its own waits for the job. Replicas hear of each other's changes by `changed_at`.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)

from gateway.ledger.accounts import lock
from gateway.ledger.deliveries import drop, job_ended, make_way
from gateway.ledger.reservations import RequestIdTaken, ReservationLost, Settled, charge_one, settle_as
from gateway.ledger.schema import JobState, jobs, replicas, reservations
from gateway.model.endings import ENDS, Facts, FailedCosts, Known, cost_of

AT_ONCE: Final = 200
_MAX_TAKEN: Final = 500
MAX_HEARD: Final = 5000
_HEARD: Final = 3000
_APART: Final = 2.0
"""Seconds; an id is given to another job three seconds after it was forgotten at the earliest (_HEARD)."""

_MILLISECOND: Final = 0.001

_KEY: Final = (jobs.c.upstream == bindparam("at")) & (jobs.c.request_id == bindparam("named"))
_FIND: Final = select(jobs).where(_KEY)
# Word for word the condition of ix_jobs_living: neither engine takes a partial index for one with a parameter in it.
_LIVES: Final = jobs.c.state != literal_column(str(int(JobState.GONE)))
_RUNS: Final = _LIVES & (jobs.c.state == int(JobState.RUNNING))
_INSERT: Final = insert(jobs)
_END: Final = (
    update(jobs)
    .where(_KEY, jobs.c.reservation == bindparam("of"))  # the id of one that is gone may be another's by now
    .values({name: bindparam(f"new_{name}") for name in ("state", "known", "ended_at", "expires_at", "changed_at")})
)


class NewJob(NamedTuple):
    """A job that the upstream has just taken. `path` is its submit's, `check_url` what its client is told."""

    request_id: str
    shape: str
    path: str
    check_url: str | None


class JobKey(NamedTuple):
    """A job as a process knows it: upstream and id, and when it began; an id may be given to another one later."""

    upstream: str
    request_id: str
    created_at: float

    @property
    def key(self) -> tuple[str, str]:
        """Upstream and id."""
        return self.upstream, self.request_id


def named(row: Row[Any]) -> JobKey:
    """The job of a row."""
    return JobKey(row.upstream, row.request_id, row.created_at)


class Learnt(NamedTuple):
    """How a job stands now; `settled` is None when its cost is as before, `is_end` says that it has ended by this."""

    state: JobState
    expires_at: int | None
    known: Known
    settled: Settled | None
    is_end: bool


class Stands(NamedTuple):
    """How a job stands: its columns."""

    state: JobState
    known: Known
    ended_at: int | None
    expires_at: int | None


def begin(connection: Connection, reservation: str, job: NewJob, watcher: str, now: float) -> None:
    """Notes whose a job is, as its reservation says. Once more for the same reservation, it changes nothing.

    Raises:
        RequestIdTaken: the id is another job's, of whose result somebody may still have the use.
        ReservationLost: there is no such reservation any more.
    """
    claim = connection.execute(select(reservations).where(reservations.c.id == reservation)).first()
    if claim is None:
        raise ReservationLost
    old = find(connection, claim.upstream, job.request_id)
    if old is not None and old.reservation == reservation:
        return
    if old is not None and (old.state != JobState.GONE or _milliseconds(now) - (old.changed_at or 0) < _HEARD):
        raise RequestIdTaken  # other replicas may still take it for the old owner's
    changed_at = None
    if old is not None:  # replicas that remember the old one hear that its id is another's
        connection.execute(delete(jobs).where(_KEY), {"at": claim.upstream, "named": job.request_id})
        make_way(connection, claim.upstream, job.request_id)
        changed_at = _milliseconds(now)
    connection.execute(
        _INSERT,
        {
            **job._asdict(), "upstream": claim.upstream, "reservation": reservation, "account": claim.account,
            "owner": claim.owner, "state": JobState.RUNNING, "created_at": int(now), "watcher": watcher,
            "changed_at": changed_at,
        },
    )  # fmt: skip


def find(connection: Connection, upstream: str, request_id: str) -> Row[Any] | None:
    """One job, whatever became of it."""
    return connection.execute(_FIND, {"at": upstream, "named": request_id}).first()


def learn(
    connection: Connection, job: JobKey, facts: Facts, failed_costs: FailedCosts, now: float, ttl: float
) -> Learnt | None:
    """Adds what somebody learnt of a job's end, and lets the job cost what follows from all that is known.

    The first fact that ends it starts its result's time, `ttl` seconds. Twice is once, and the order is of no
    consequence; the webhook that has gone out is not taken back. One that is forgotten may still be charged another
    sum. None when there is no such job any more.
    """
    found = _locked(connection, job)
    if found is None:
        return None
    known = known_of(found) | facts.known
    cost = cost_of(known, failed_costs)
    if known == found.known:
        return Learnt(JobState(found.state), found.expires_at, known, None, is_end=False)
    settled = None
    if cost is not None:
        settled = settle_as(connection, found.account, found.reservation, cost, facts.pages, now)
    is_end = found.state == JobState.RUNNING and cost is not None
    ended_at, expires_at = (int(now), int(now + ttl)) if is_end else (found.ended_at, found.expires_at)
    state = JobState(found.state)
    if cost is not None and state is not JobState.GONE:
        state = JobState.COMPLETE if Known.COMPLETE in known else JobState.FAILED
    _set_end(connection, found, Stands(state, known, ended_at, expires_at), now)
    if is_end:
        job_ended(connection, *job.key, state.name.lower(), now)
    return Learnt(state, expires_at, known, settled, is_end)


def known_of(row: Row[Any]) -> Known:
    """All that is known of a job; where a version that writes no facts has ended it, its state tells of that."""
    told = {JobState.COMPLETE: Known.COMPLETE, JobState.FAILED: Known.LOST}
    known = Known(row.known)
    return known if known & ENDS else known | told.get(row.state, Known.NOTHING)


def forget(connection: Connection, job: JobKey, now: float) -> bool:
    """Lets nobody read a job from now on; whether anybody could. The upstream is still to be told.

    A job that runs on is given up: the upstream works at it, whoever has deleted it, so it is charged as reserved,
    until somebody learns how it ended.
    """
    return _forget(connection, job, now)[0]


def give_up(connection: Connection, job: JobKey, now: float) -> Settled | None:
    """The same, for the owner who deletes it; what was charged, if it was not settled before."""
    return _forget(connection, job, now)[1]


def _forget(connection: Connection, job: JobKey, now: float) -> tuple[bool, Settled | None]:
    found = _locked(connection, job)
    if found is None or found.state == JobState.GONE:
        return False, None
    known = known_of(found)
    if not known & ENDS:
        known |= Known.GIVEN_UP
    settled = charge_one(connection, found.account, found.reservation, now)
    connection.execute(
        update(reservations).where(reservations.c.id == found.reservation).values(request_id=None)
    )  # the upstream may give the id to another job
    ended_at = int(now) if found.ended_at is None else found.ended_at  # what had ended keeps its end
    _set_end(connection, found, Stands(JobState.GONE, known, ended_at, int(now)), now)
    drop(connection, *job.key)
    return True, settled


def expired(connection: Connection, now: float) -> list[Row[Any]]:
    """Jobs whose time is over: those to be forgotten, and those forgotten that the upstream is to be told of."""
    query = select(jobs).where(jobs.c.expires_at <= int(now)).order_by(jobs.c.expires_at).limit(AT_ONCE)
    return list(connection.execute(query))


def told(connection: Connection, job: tuple[str, str], again_at: int | None) -> None:
    """Notes that the upstream was told to delete a job, or, with a time, that it is to be told again then."""
    gone = update(jobs).where(_KEY, jobs.c.state == int(JobState.GONE)).values(expires_at=again_at)
    connection.execute(gone, {"at": job[0], "named": job[1]})


def changed_since(connection: Connection, milliseconds: int) -> list[Row[Any]]:
    """Jobs that something happened to, the longest ago first, some at once."""
    query = select(jobs).where(jobs.c.changed_at > milliseconds).order_by(jobs.c.changed_at, jobs.c.request_id)
    return list(connection.execute(query.limit(MAX_HEARD)))


def beat(connection: Connection, me: str, now: float, until: float) -> None:
    """Says that a replica lives, and forgets those that have not said so for long."""
    if not connection.execute(update(replicas).where(replicas.c.name == me).values(alive_until=int(until))).rowcount:
        connection.execute(insert(replicas), {"name": me, "alive_until": int(until)})
    connection.execute(delete(replicas).where(replicas.c.alive_until < int(now) - 3600))


def leave(connection: Connection, me: str) -> None:
    """Says that a replica ends: others may take its jobs over at once."""
    connection.execute(delete(replicas).where(replicas.c.name == me))


def take_over(connection: Connection, me: str, now: float) -> list[Row[Any]]:
    """Takes jobs that nobody follows, some at once; those that are taken.

    Whoever followed them hears of it: it may live, and have been away from the ledger alone.
    """
    alive = exists().where(replicas.c.name == jobs.c.watcher, replicas.c.alive_until > int(now))
    left = select(jobs).where(_RUNS, jobs.c.watcher != me, ~alive).order_by(jobs.c.created_at).limit(_MAX_TAKEN)
    found = connection.execute(left.with_for_update(skip_locked=True)).all()
    # PostgreSQL does not ask again who is alive when another took the row between the look and the lock. The update
    # looks afresh, at a row that is locked.
    take = update(jobs).where(_KEY, ~alive).values(watcher=me, changed_at=_milliseconds(now))
    return [row for row in found if connection.execute(take, {"at": row.upstream, "named": row.request_id}).rowcount]


def adopt(connection: Connection, job: tuple[str, str], me: str, now: float) -> None:
    """Takes one job from whoever follows it, who hears of that."""
    mine = update(jobs).where(_KEY, _RUNS).values(watcher=me, changed_at=_milliseconds(now))
    connection.execute(mine, {"at": job[0], "named": job[1]})


def followed_by(connection: Connection, me: str) -> list[tuple[str, str]]:
    """Upstreams and ids of the jobs that a replica follows, or should."""
    query = select(jobs.c.upstream, jobs.c.request_id).where(_RUNS, jobs.c.watcher == me)
    return [(row.upstream, row.request_id) for row in connection.execute(query)]


def count(connection: Connection) -> dict[str, int]:
    """How many jobs there are, by state; those that are gone are not counted."""
    rows = connection.execute(select(jobs.c.state, func.count()).where(_LIVES).group_by(jobs.c.state))
    found = {JobState(state).name.lower(): number for state, number in rows}
    return {state.name.lower(): found.get(state.name.lower(), 0) for state in JobState if state != JobState.GONE}


def purge(connection: Connection, before: float) -> int:
    """Removes the records of jobs that are gone for long, and of their reservations; how many, some at once."""
    old = select(jobs.c.upstream, jobs.c.request_id, jobs.c.reservation).where(
        jobs.c.state == int(JobState.GONE), jobs.c.expires_at.is_(None), jobs.c.created_at < int(before)
    )
    rows = list(connection.execute(old.order_by(jobs.c.created_at).limit(AT_ONCE)))
    for row in rows:
        connection.execute(delete(jobs).where(_KEY), {"at": row.upstream, "named": row.request_id})
        connection.execute(delete(reservations).where(reservations.c.id == row.reservation))
    return len(rows)


def _locked(connection: Connection, job: JobKey) -> Row[Any] | None:
    """A job, its account locked; None when there is none, or its id is, or became meanwhile, another's."""
    found = find(connection, *job.key)
    if found is None or found.created_at > job.created_at + _APART:
        return None
    lock(connection, found.account)
    again = find(connection, *job.key)
    return again if again is not None and again.reservation == found.reservation else None


def _set_end(connection: Connection, row: Row[Any], stands: Stands, now: float) -> None:
    values = {**stands._asdict(), "changed_at": _milliseconds(now)}
    named = {f"new_{name}": value for name, value in values.items()}
    connection.execute(_END, {"at": row.upstream, "named": row.request_id, "of": row.reservation, **named})


def _milliseconds(now: float) -> int:
    return int(now / _MILLISECOND)
