"""The jobs of the ledger: owner, watcher and end of each; each function is one transaction.

    begin ──> learn ──> forget ──> deleted       an id belongs to its owner from before the client sees it until
      └───────────────────┘                      `forget`; from then on it has no owner

A job has one watcher: the replica that took its submit, or one that took it over, because the watcher was silent or
because one of its own clients has a long poll on the job. Replicas find each other's changes by `changed_at`.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Integer,
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
from gateway.ledger.reservations import find as find_reservation
from gateway.ledger.schema import JobState, jobs, replicas, reservations
from gateway.ledger.statement import Statement
from gateway.limits.job_cost import ENDS, Facts, FailedCosts, Known, cost_of
from gateway.model.jobs import JobKey

AT_ONCE: Final = 200
_MAX_TAKEN: Final = 500
MAX_HEARD: Final = 5000
_HEARD: Final = 5000
"""Milliseconds. An id can go to another job at the earliest so long after it was forgotten: two seconds until that is
committed (else the upstream is not asked to delete it), two in which other replicas may serve it without having heard
of it (jobs/registry.py), and one for clocks that differ."""

_MAY_LIVE: Final = 15  # seconds

_MILLISECOND: Final = 0.001

_KEY: Final = (jobs.c.upstream == bindparam("at")) & (jobs.c.request_id == bindparam("named"))
_FIND: Final = Statement(select(jobs).where(_KEY))
# Must equal the condition of ix_jobs_living word for word, without parameters: else no engine uses a partial index.
_LIVES: Final = jobs.c.state != literal_column(str(int(JobState.GONE)))
_RUNS: Final = _LIVES & (jobs.c.state == int(JobState.RUNNING))
_ROW: Final = (
    "upstream", "request_id", "reservation", "account", "owner", "shape", "path", "check_url", "state", "created_at",
    "changed_at", "watcher",
)  # fmt: skip
_MOST: Final = bindparam("most", type_=Integer)
_CHANGED: Final = Statement(
    select(jobs)
    .where(jobs.c.changed_at > bindparam("since"))
    .order_by(jobs.c.changed_at, jobs.c.request_id)
    .limit(_MOST)
)
_EXPIRED: Final = Statement(
    select(jobs).where(jobs.c.expires_at <= bindparam("now")).order_by(jobs.c.expires_at).limit(_MOST)
)
_FIRST_EXPIRY: Final = Statement(
    select(jobs.c.expires_at).where(jobs.c.expires_at.is_not(None)).order_by(jobs.c.expires_at).limit(1)
)
_ALIVE: Final = replicas.c.alive_until > bindparam("now")
_WATCHED: Final = exists().where(replicas.c.name == jobs.c.watcher, _ALIVE)
_LEFT: Final = Statement(
    select(jobs)
    .where(_RUNS, jobs.c.watcher != bindparam("me"), ~_WATCHED)
    .order_by(jobs.c.created_at)
    .limit(_MOST)
    .with_for_update(skip_locked=True)
)
_OTHERS: Final = Statement(select(replicas.c.name).where(replicas.c.name != bindparam("me"), _ALIVE).limit(1))
_BEAT: Final = Statement(
    update(replicas).where(replicas.c.name == bindparam("me")).values(alive_until=bindparam("until"))
)
_SILENT: Final = Statement(delete(replicas).where(replicas.c.alive_until < bindparam("before")))
_INSERT: Final = Statement(insert(jobs), _ROW)
_END: Final = Statement(
    update(jobs)
    .where(_KEY, jobs.c.reservation == bindparam("of"))  # a GONE job's id may belong to another by now
    .values({name: bindparam(f"new_{name}") for name in ("state", "known", "ended_at", "expires_at", "changed_at")})
)


class NewJob(NamedTuple):
    """A job that the upstream has just taken. `path` is its submit's, `check_url` the one its client received."""

    request_id: str
    shape: str
    path: str
    check_url: str | None


def named(row: Row[Any]) -> JobKey:
    """The job of a row."""
    return JobKey(row.upstream, row.request_id, row.reservation)


class Learnt(NamedTuple):
    """A job's state after `learn`. `settled` is None if its cost did not change; `is_end`: this call ended it."""

    state: JobState
    expires_at: int | None
    known: Known
    settled: Settled | None
    is_end: bool


class Deleted(NamedTuple):
    """Whether a job was readable until its deletion, and what was charged, if it was not settled before."""

    was_readable: bool
    settled: Settled | None


class Stands(NamedTuple):
    """A job's state: its columns."""

    state: JobState
    known: Known
    ended_at: int | None
    expires_at: int | None


def begin(connection: Connection, reservation: str, job: NewJob, watcher: str, now: float) -> None:
    """Records a job with the owner of its reservation. Repeating it for the same reservation changes nothing.

    Raises:
        RequestIdTaken: the id belongs to another job whose owner may still read it.
        ReservationLost: the reservation does not exist any more.
    """
    claim = find_reservation(connection, reservation)
    if claim is None:
        raise ReservationLost
    old = find(connection, claim.upstream, job.request_id)
    if old is not None and old.reservation == reservation:
        return
    if old is not None and (old.state != JobState.GONE or _milliseconds(now) - (old.changed_at or 0) < _HEARD):
        raise RequestIdTaken  # other replicas may still think it the old owner's
    changed_at = None
    if old is not None:  # `changed_at` shows replicas that cache the old job that its id has a new one
        connection.execute(delete(jobs).where(_KEY), {"at": claim.upstream, "named": job.request_id})
        make_way(connection, claim.upstream, job.request_id)
        changed_at = _milliseconds(now)
    _INSERT.run(
        connection, **job._asdict(), upstream=claim.upstream, reservation=reservation, account=claim.account,
        owner=claim.owner, state=JobState.RUNNING, created_at=int(now), watcher=watcher, changed_at=changed_at,
    )  # fmt: skip


def find(connection: Connection, upstream: str, request_id: str) -> Row[Any] | None:
    """Returns one job in any state."""
    row: Row[Any] | None = _FIND.first(connection, at=upstream, named=request_id)
    return row


def learn(
    connection: Connection, job: JobKey, facts: Facts, failed_costs: FailedCosts, now: float, ttl: float
) -> Learnt | None:
    """Adds facts about a job's end and charges what follows from all known facts.

    The first fact that ends the job starts the lifetime of its result, `ttl` seconds. The call is idempotent, and the
    order of facts does not matter; a webhook that was sent is not taken back. The cost of a forgotten job may still
    change. Returns None if the job does not exist any more.
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
    """All known facts of a job; if an older version that writes no facts ended it, its state supplies them."""
    told = {JobState.COMPLETE: Known.COMPLETE, JobState.FAILED: Known.LOST}
    known = Known(row.known)
    return known if known & ENDS else known | told.get(row.state, Known.NOTHING)


def forget(connection: Connection, job: JobKey, now: float) -> bool:
    """Makes a job unreadable from now on; returns whether it was readable. Its deletion upstream is still due.

    A job that still runs is given up, and so charged as reserved: the upstream works on it, no matter who deleted it.
    If a replica learns later how it ended, the charge is corrected.
    """
    return _forget(connection, job, now).was_readable


def delete_for_owner(connection: Connection, job: JobKey, now: float) -> Deleted:
    """Does the same when the owner deletes it; only who deleted it may have the upstream delete it."""
    return _forget(connection, job, now)


def _forget(connection: Connection, job: JobKey, now: float) -> Deleted:
    found = _locked(connection, job)
    if found is None or found.state == JobState.GONE:
        return Deleted(was_readable=False, settled=None)
    known = known_of(found)
    if not known & ENDS:
        known |= Known.GIVEN_UP
    settled = charge_one(connection, found.account, found.reservation, now)
    connection.execute(
        update(reservations).where(reservations.c.id == found.reservation).values(request_id=None)
    )  # the upstream may give the id to another job
    ended_at = int(now) if found.ended_at is None else found.ended_at  # an earlier end stays
    _set_end(connection, found, Stands(JobState.GONE, known, ended_at, int(now)), now)
    drop(connection, *job.key)
    return Deleted(was_readable=True, settled=settled)


def expired(connection: Connection, now: float) -> list[Row[Any]]:
    """Jobs whose `expires_at` has passed: readable ones to forget, and forgotten ones to delete upstream."""
    return _EXPIRED.all(connection, now=int(now), most=AT_ONCE)


def first_expiry(connection: Connection) -> int | None:
    """The first `expires_at` of all jobs, passed or not; None if none has one."""
    row = _FIRST_EXPIRY.first(connection)
    return None if row is None else int(row.expires_at)


def told(connection: Connection, row: Row[Any], again_at: int | None, now: float) -> bool:
    """Records that the upstream has deleted a job, or is about to be asked and, with a time, when to ask it again.

    Returns whether the id still is that job's: if it is another one's by now, the upstream must not delete it. If it
    is not, it does not become another one's so soon (_HEARD): the upstream may have given it already, and deletes
    what has it then.
    """
    mine = _KEY, jobs.c.state == int(JobState.GONE), jobs.c.reservation == bindparam("of")
    gone = update(jobs).where(*mine).values(expires_at=again_at, changed_at=_milliseconds(now))
    named = {"at": row.upstream, "named": row.request_id, "of": row.reservation}
    return connection.execute(gone, named).rowcount > 0


def changed_since(connection: Connection, milliseconds: int) -> list[Row[Any]]:
    """Returns changed jobs, the earliest change first, MAX_HEARD at most."""
    return _CHANGED.all(connection, since=milliseconds, most=MAX_HEARD)


def beat(connection: Connection, me: str, now: float, until: float) -> None:
    """Writes a replica's heartbeat, and deletes replicas that have been silent for an hour."""
    if not _BEAT.run(connection, me=me, until=int(until)):
        connection.execute(insert(replicas), {"name": me, "alive_until": int(until)})
    _SILENT.run(connection, before=int(now) - 3600)


def has_others(connection: Connection, me: str, now: float) -> bool:
    """Whether other replicas live, or did until a moment ago."""
    return _OTHERS.first(connection, me=me, now=int(now) - _MAY_LIVE) is not None


def leave(connection: Connection, me: str) -> None:
    """Removes a replica that ends: others may take over its jobs at once."""
    connection.execute(delete(replicas).where(replicas.c.name == me))


def take_over(connection: Connection, me: str, now: float) -> list[Row[Any]]:
    """Takes over jobs without a living watcher, a batch at a time; returns them.

    The former watcher sees the change: it may be alive and only have lost the ledger.
    """
    found = _LEFT.all(connection, me=me, now=int(now), most=_MAX_TAKEN)
    # If another replica took a row between the select and the lock, PostgreSQL does not check again which replicas
    # live. The update checks again, on a locked row.
    take = update(jobs).where(_KEY, ~_WATCHED).values(watcher=me, changed_at=_milliseconds(now))
    named = [{"at": row.upstream, "named": row.request_id, "now": int(now)} for row in found]
    return [row for row, of in zip(found, named, strict=True) if connection.execute(take, of).rowcount]


def adopt(connection: Connection, job: JobKey, me: str, now: float) -> None:
    """Takes over one job from its watcher, which sees the change."""
    this = _KEY & (jobs.c.reservation == bindparam("of"))
    mine = update(jobs).where(this, _RUNS).values(watcher=me, changed_at=_milliseconds(now))
    connection.execute(mine, {"at": job.upstream, "named": job.request_id, "of": job.reservation})


def followed_by(connection: Connection, me: str) -> list[JobKey]:
    """The running jobs whose watcher is this replica."""
    query = select(jobs.c.upstream, jobs.c.request_id, jobs.c.reservation).where(_RUNS, jobs.c.watcher == me)
    return [JobKey(row.upstream, row.request_id, row.reservation) for row in connection.execute(query)]


def count(connection: Connection) -> dict[str, int]:
    """Number of jobs by state, without GONE ones."""
    rows = connection.execute(select(jobs.c.state, func.count()).where(_LIVES).group_by(jobs.c.state))
    found = {JobState(state).name.lower(): number for state, number in rows}
    return {state.name.lower(): found.get(state.name.lower(), 0) for state in JobState if state != JobState.GONE}


def purge(connection: Connection, before: float) -> int:
    """Deletes old records of GONE jobs and of their reservations, a batch at a time; returns how many jobs."""
    old = select(jobs.c.upstream, jobs.c.request_id, jobs.c.reservation).where(
        jobs.c.state == int(JobState.GONE), jobs.c.expires_at.is_(None), jobs.c.created_at < int(before)
    )
    rows = list(connection.execute(old.order_by(jobs.c.created_at).limit(AT_ONCE)))
    for row in rows:
        connection.execute(delete(jobs).where(_KEY), {"at": row.upstream, "named": row.request_id})
        connection.execute(delete(reservations).where(reservations.c.id == row.reservation))
    return len(rows)


def _locked(connection: Connection, job: JobKey) -> Row[Any] | None:
    """Returns a job, its account locked; None if it does not exist, or its id belongs to another job by now."""
    found = find(connection, *job.key)
    if found is None or found.reservation != job.reservation:
        return None
    lock(connection, found.account)
    again = find(connection, *job.key)
    return again if again is not None and again.reservation == found.reservation else None


def _set_end(connection: Connection, row: Row[Any], stands: Stands, now: float) -> None:
    values = {**stands._asdict(), "changed_at": _milliseconds(now)}
    named = {f"new_{name}": value for name, value in values.items()}
    _END.run(connection, at=row.upstream, named=row.request_id, of=row.reservation, **named)


def _milliseconds(now: float) -> int:
    return int(now / _MILLISECOND)
