"""The jobs of the ledger: owner and end of each; each function is one transaction. Who watches them: watchers.py.

    begin ──> record_facts ──> forget ──> deleted    an id belongs to its owner from before the client sees it until
      └──────────────────────────┘                   `forget`; from then on it has no owner

Replicas find each other's changes by `changed_at`.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from gateway.ledger import postgres_ends
from gateway.ledger.accounts import lock
from gateway.ledger.closing import Closing, Settled, settle_as
from gateway.ledger.conditions import IS_READABLE
from gateway.ledger.deliveries import drop, make_due, make_way
from gateway.ledger.engine import is_postgres
from gateway.ledger.reservations import RequestIdTaken, ReservationLost, apply, charge_one
from gateway.ledger.schema import JobState, accounts, jobs, reservations
from gateway.ledger.statement import Statement
from gateway.limits.job_cost import ENDS, Facts, FailedCosts, Known, cost_of
from gateway.model.jobs import JobRef
from gateway.units import milliseconds

MAX_HEARD_ROWS: Final = 5000
DELETED_WITHIN: Final = 2.0  # seconds after an id was forgotten; later the upstream is not asked to delete its job
HEARD_WITHIN: Final = 2.0  # seconds in which other replicas may serve a job that they did not hear is forgotten
_CLOCKS_DIFFER: Final = 1.0  # seconds
_RESTS: Final = int(1000 * (DELETED_WITHIN + HEARD_WITHIN + _CLOCKS_DIFFER))
"""Milliseconds after which, at the earliest, a forgotten id can go to another job."""

KEY: Final = (jobs.c.upstream == bindparam("at")) & (jobs.c.request_id == bindparam("named"))
_FIND: Final = Statement(select(jobs).where(KEY))
RUNS: Final = IS_READABLE & (jobs.c.state == int(JobState.RUNNING))
_ROW: Final = (
    "upstream", "request_id", "reservation", "account", "owner", "shape", "path", "check_url", "state", "created_at",
    "changed_at", "watcher",
)  # fmt: skip
MOST: Final = bindparam("most", type_=Integer)
_CHANGED: Final = Statement(
    select(jobs)
    .where(jobs.c.changed_at > bindparam("since"))
    .order_by(jobs.c.changed_at, jobs.c.request_id)
    .limit(MOST)
)
_INSERT: Final = Statement(insert(jobs), _ROW)
_END: Final = Statement(
    update(jobs)
    .where(KEY, jobs.c.reservation == bindparam("of"))  # a GONE job's id may belong to another by now
    .values({name: bindparam(f"new_{name}") for name in ("state", "known", "ended_at", "expires_at", "changed_at")})
)


_SEEN: Final = Statement(
    select(*postgres_ends.SEEN)
    .select_from(
        jobs.outerjoin(reservations, reservations.c.id == jobs.c.reservation).outerjoin(
            accounts, accounts.c.account == jobs.c.account
        )
    )
    .where(KEY, jobs.c.reservation == bindparam("of"))
)


class NewJob(NamedTuple):
    """A job that the upstream has just taken. `path` is its submit's, `check_url` the one its client received."""

    request_id: str
    shape: str
    path: str
    check_url: str | None


def job_ref(row: Row[Any]) -> JobRef:
    """The job of a row."""
    return JobRef(row.upstream, row.request_id, row.reservation)


class Recorded(NamedTuple):
    """A job's state after `record_facts`. `settled` is None if its cost did not change; `is_end`: this ended it.

    `makes_due`: it has a webhook, which this made due.
    """

    state: JobState
    expires_at: int | None
    known: Known
    settled: Settled | None
    is_end: bool
    makes_due: bool = False


class NewFacts(NamedTuple):
    """Facts about a job's end that the ledger is to record, and what the job costs if it failed."""

    job: JobRef
    facts: Facts
    failed_costs: FailedCosts


class JobEnd(NamedTuple):
    """What is to be written of a job: its row as it was read, the end of its reservation, and how it stands then."""

    row: Any
    closing: Closing | None
    ended_at: int | None
    recorded: Recorded

    @property
    def is_news(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.recorded.known != self.row.known)


class Deleted(NamedTuple):
    """Whether a job was readable until its deletion, and what was charged, if it was not settled before."""

    was_readable: bool
    settled: Settled | None


class StateColumns(NamedTuple):
    """The columns of a job's state."""

    state: JobState
    known: Known
    ended_at: int | None
    expires_at: int | None


def begin(connection: Connection, accepted: Row[Any] | None, job: NewJob, watcher: str, now: float) -> bool:
    """Records a job with the owner of its reservation; returns False if it was recorded before, by the same call.

    `accepted` is what reservations.accept returned in the same transaction.

    Raises:
        RequestIdTaken: the id belongs to another job whose owner may still read it.
        ReservationLost: the reservation does not exist any more.
    """
    if accepted is None:
        raise ReservationLost
    old = find(connection, accepted.upstream, job.request_id)
    if old is not None and old.reservation == accepted.id:
        return False
    if old is not None and (old.state != JobState.GONE or milliseconds(now) - (old.changed_at or 0) < _RESTS):
        raise RequestIdTaken  # other replicas may still think it the old owner's
    changed_at = None
    if old is not None:  # `changed_at` shows replicas that cache the old job that its id has a new one
        connection.execute(delete(jobs).where(KEY), {"at": accepted.upstream, "named": job.request_id})
        changed_at = milliseconds(now)
    make_way(connection, accepted.upstream, job.request_id)
    _INSERT.run(
        connection, **job._asdict(), upstream=accepted.upstream, reservation=accepted.id, account=accepted.account,
        owner=accepted.owner, state=JobState.RUNNING, created_at=int(now), watcher=watcher, changed_at=changed_at,
    )  # fmt: skip
    return True


def find(connection: Connection, upstream: str, request_id: str) -> Row[Any] | None:
    """Returns one job in any state."""
    row: Row[Any] | None = _FIND.first(connection, at=upstream, named=request_id)
    return row


def record_facts(
    connection: Connection, job: JobRef, facts: Facts, failed_costs: FailedCosts, now: float, ttl: float
) -> Recorded | None:
    """Adds facts about a job's end and charges what follows from all known facts.

    The first fact that ends the job starts the lifetime of its result, `ttl` seconds. The call is idempotent, and the
    order of facts does not matter; a webhook that was sent is not taken back. The cost of a forgotten job may still
    change. Returns None if the job does not exist any more.
    """
    (recorded,) = record_locked(connection, [NewFacts(job, facts, failed_costs)], now, ttl)
    return recorded


def record_locked(connection: Connection, asked: Sequence[NewFacts], now: float, ttl: float) -> list[Recorded | None]:
    """Does so for jobs of several reservations, their accounts locked first."""
    if not is_postgres(connection):
        return [_record_one(connection, one, now, ttl) for one in asked]
    for account in sorted({row.account for row in postgres_ends.read_jobs(connection, [one.job for one in asked])}):
        lock(connection, account)
    return record_with_locks_held(connection, asked, now, ttl)


def record_with_locks_held(
    connection: Connection, asked: Sequence[NewFacts], now: float, ttl: float
) -> list[Recorded | None]:
    """Does so where the transaction has locked their accounts already: in two round trips, however many they are."""
    while (recorded := record_unlocked(connection, asked, now, ttl)) is None:
        pass  # one was deleted meanwhile, which takes no lock
    return recorded


def record_unlocked(
    connection: Connection, asked: Sequence[NewFacts], now: float, ttl: float
) -> list[Recorded | None] | None:
    """Does so without a lock, in two round trips; returns None if another changed any of them meanwhile."""
    if not is_postgres(connection):
        return record_locked(connection, asked, now, ttl)
    rows = {job_ref(row): row for row in postgres_ends.read_jobs(connection, [one.job for one in asked])}
    found = [(rows[one.job], one) for one in asked if one.job in rows]
    ends = {one.job: _end_of(row, one, now, ttl) for row, one in found}
    news = [end for end in ends.values() if end.is_news]
    if news and not postgres_ends.write(connection, news, now):
        return None
    return [ends[one.job].recorded if one.job in ends else None for one in asked]


def _record_one(connection: Connection, asked: NewFacts, now: float, ttl: float) -> Recorded | None:
    job = asked.job
    row = _SEEN.first(connection, at=job.upstream, named=job.request_id, of=job.reservation)
    if row is None:
        return None
    end = _end_of(row, asked, now, ttl)
    if end.is_news:
        if end.closing is not None:
            apply(connection, end.closing)
        _set_end(
            connection,
            row,
            StateColumns(end.recorded.state, end.recorded.known, end.ended_at, end.recorded.expires_at),
            now,
        )
    if end.recorded.makes_due:
        make_due(connection, *job.key, end.recorded.state.name.lower(), now)
    return end.recorded


def _end_of(row: Any, asked: NewFacts, now: float, ttl: float) -> JobEnd:
    """What follows from all that is known of a job: its row, as it was read, and these facts."""
    known = known_of(row) | asked.facts.known
    state = JobState(row.state)
    if known == row.known:
        return JobEnd(row, None, row.ended_at, Recorded(state, row.expires_at, known, None, is_end=False))
    cost, closing = cost_of(known, asked.failed_costs), None
    if cost is not None and row.id is not None:
        closing = settle_as(row, cost, asked.facts.pages, now, row.reset_at or 0)
    is_end = state is JobState.RUNNING and cost is not None
    ended_at, expires_at = (int(now), int(now + ttl)) if is_end else (row.ended_at, row.expires_at)
    if cost is not None and state is not JobState.GONE:
        state = JobState.COMPLETE if Known.COMPLETE in known else JobState.FAILED
    settled = None if closing is None else closing.settled
    makes_due = is_end and bool(row.has_webhook)
    return JobEnd(row, closing, ended_at, Recorded(state, expires_at, known, settled, is_end, makes_due))


def known_of(row: Row[Any]) -> Known:
    """All known facts of a job; if an older version that writes no facts ended it, its state supplies them."""
    told = {JobState.COMPLETE: Known.COMPLETE, JobState.FAILED: Known.LOST}
    known = Known(row.known)
    return known if known & ENDS else known | told.get(row.state, Known.NOTHING)


def forget(connection: Connection, job: JobRef, now: float) -> bool:
    """Makes a job unreadable from now on; returns whether it was readable. Its deletion upstream is still due.

    A job that still runs is given up, and so charged as reserved: the upstream works on it, no matter who deleted it.
    If a replica learns later that it was complete, the charge is corrected; that it failed corrects nothing.
    """
    return _forget(connection, job, now).was_readable


def delete_for_owner(connection: Connection, job: JobRef, now: float) -> Deleted:
    """Does the same when the owner deletes it; only who deleted it may have the upstream delete it."""
    return _forget(connection, job, now)


def end_another_owners(connection: Connection, upstream: str, request_id: str, owner: str, now: float) -> Deleted:
    """Does the same with the job of an id, if it is another owner's: the upstream has given the id to one of `owner`.

    What the upstream has under that id is not its owner's any more. A job that began after `now` may have the id by
    right: this may be tried for as long as the ledger is away.
    """
    found = find(connection, upstream, request_id)
    if found is None or found.owner == owner or found.created_at > int(now):
        return Deleted(was_readable=False, settled=None)
    return _forget(connection, job_ref(found), now)


def _forget(connection: Connection, job: JobRef, now: float) -> Deleted:
    found = _locked(connection, job)
    if found is None or found.state == JobState.GONE:
        return Deleted(was_readable=False, settled=None)
    known = known_of(found)
    if not known & ENDS:
        known |= Known.GIVEN_UP | Known.DELETED
    settled = charge_one(connection, found.account, found.reservation, now)
    connection.execute(
        update(reservations).where(reservations.c.id == found.reservation).values(request_id=None)
    )  # the upstream may give the id to another job
    ended_at = int(now) if found.ended_at is None else found.ended_at  # an earlier end stays
    _set_end(connection, found, StateColumns(JobState.GONE, known, ended_at, int(now)), now)
    drop(connection, job.key)
    return Deleted(was_readable=True, settled=settled)


def changed_since(connection: Connection, since: int) -> list[Row[Any]]:
    """Returns jobs changed since then (in milliseconds), the earliest change first, MAX_HEARD_ROWS at most."""
    return _CHANGED.all(connection, since=since, most=MAX_HEARD_ROWS)


def count(connection: Connection) -> dict[str, int]:
    """Number of jobs by state, without GONE ones."""
    rows = connection.execute(select(jobs.c.state, func.count()).where(IS_READABLE).group_by(jobs.c.state))
    found = {JobState(state).name.lower(): number for state, number in rows}
    return {state.name.lower(): found.get(state.name.lower(), 0) for state in JobState if state != JobState.GONE}


def _locked(connection: Connection, job: JobRef) -> Row[Any] | None:
    """Returns a job, its account locked; None if it does not exist, or its id belongs to another job by now."""
    found = find(connection, *job.key)
    if found is None or found.reservation != job.reservation:
        return None
    lock(connection, found.account)
    again = find(connection, *job.key)
    return again if again is not None and again.reservation == found.reservation else None


def _set_end(connection: Connection, row: Row[Any], columns: StateColumns, now: float) -> None:
    values = {**columns._asdict(), "changed_at": milliseconds(now)}
    named = {f"new_{name}": value for name, value in values.items()}
    _END.run(connection, at=row.upstream, named=row.request_id, of=row.reservation, **named)


def any_of(rows: Collection[Row[Any]] | Collection[JobRef]) -> ColumnElement[bool]:
    """Whether a row is of one of these jobs. An id may be another job's by now; a reservation is one job's alone."""
    return and_(
        jobs.c.upstream.in_({row.upstream for row in rows}),
        jobs.c.request_id.in_({row.request_id for row in rows}),
        jobs.c.reservation.in_({row.reservation for row in rows}),
    )
