"""The end of jobs in the ledger: their time is over, the upstream deletes them, their records go.

    expired ──> forget_expired ──> due_gone ──> claim_gone ──> mark_deleted ──> purge
                                      ▲             │
                                      └─────────────┘ again, after a wait, until the upstream has deleted them

A reservation goes with its job. One that has no job, because none came of its submit, the answer was lost, or the
upstream gave the job's id to another one, goes by its age: `purge_ended`, and `purge_refunded` sooner.

Each function is one transaction, of as few statements for many jobs as for one: the ledger may be far away, and
thousands may end together.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Row,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
    union_all,
    update,
)

from gateway.ledger.accounts import lock_all
from gateway.ledger.conditions import ENDED, FIRST_WAIT, GONE_AGAIN, GONE_FIRST, IS_READABLE, last_wait
from gateway.ledger.deliveries import drop
from gateway.ledger.engine import is_postgres
from gateway.ledger.jobs import any_of, known_of
from gateway.ledger.schema import JobState, Stage, jobs, reservations
from gateway.ledger.statement import Statement
from gateway.limits.job_cost import ENDS, Known
from gateway.units import DAY, milliseconds

AT_ONCE: Final = 200
_SWEEP_LOCK: Final = 0x7377_6570  # PostgreSQL's advisory lock of the replica that forgets expired jobs: "swep"
_MOST_MISSED: Final = 59
LAST_WAIT: Final = 420
"""All waits together, each a second longer than the one before, are a day."""

_MILLISECONDS: Final = 1000
_FIRST_EXPIRY: Final = Statement(
    select(jobs.c.expires_at).where(jobs.c.expires_at.is_not(None)).order_by(jobs.c.expires_at).limit(1)
)


def first_expiry(connection: Connection) -> int | None:
    """The first `expires_at` of all jobs, passed or not; None if none has one."""
    row = _FIRST_EXPIRY.first(connection)
    return None if row is None else int(row.expires_at)


def expired(connection: Connection, now: float) -> list[Row[Any]]:
    """A batch of the jobs to forget: they can be read, and their `expires_at` has passed. Only reads."""
    query = select(jobs).where(IS_READABLE, jobs.c.expires_at <= int(now))
    return list(connection.execute(query.order_by(jobs.c.expires_at).limit(AT_ONCE)))


def forget_expired(
    connection: Connection, rows: Sequence[Row[Any]], now: float, kept: Collection[str] = ()
) -> list[Row[Any]]:
    """Does as `forget` for jobs that have ended and whose time is over, in six statements however many they are.

    Jobs of the shapes in `kept` the upstream does not delete. On PostgreSQL one replica does this at a time; another
    leaves them to it. Returns those that are to be forgotten one by one, since they are not settled.
    """
    if is_postgres(connection):
        free = text("SELECT pg_try_advisory_xact_lock(:number)")
        if not connection.execute(free, {"number": _SWEEP_LOCK}).scalar_one():
            return []
    lock_all(connection, {row.account for row in rows})
    is_open = exists().where(reservations.c.id == jobs.c.reservation, reservations.c.stage < Stage.SETTLED)
    those = any_of(rows), jobs.c.state.in_((int(JobState.COMPLETE), int(JobState.FAILED)))
    query = select(jobs, is_open.label("is_open")).where(*those, jobs.c.expires_at <= int(now))
    locked = list(connection.execute(query.order_by(jobs.c.upstream, jobs.c.request_id).with_for_update(of=jobs)))
    settled = [row for row in locked if not row.is_open]
    if settled:
        _forget_all(connection, settled, now, kept)
    return [row for row in locked if row.is_open]


def _forget_all(connection: Connection, rows: Sequence[Row[Any]], now: float, kept: Collection[str]) -> None:
    # ended by an older version, which kept no facts
    without_end = [row for row in rows if not Known(row.known) & ENDS]
    for known in {known_of(row) for row in without_end}:
        same = [row for row in without_end if known_of(row) == known]
        connection.execute(update(jobs).where(any_of(same)).values(known=int(known)))
    gone = {
        "state": int(JobState.GONE), "changed_at": milliseconds(now),
        "ended_at": func.coalesce(jobs.c.ended_at, int(now)),
        "expires_at": case((jobs.c.shape.in_(kept), null()), else_=literal(int(now), BigInteger)),
    }  # fmt: skip
    connection.execute(update(jobs).where(any_of(rows)).values(gone))
    these = reservations.c.id.in_([row.reservation for row in rows])
    connection.execute(update(reservations).where(these).values(request_id=None))
    drop(connection, *((row.upstream, row.request_id) for row in rows))


def waited(row: Row[Any]) -> int:
    """How long a job's last wait for its deletion was, in seconds; under a minute if the upstream was never asked.

    The wait after each attempt is longer than the one before it, so this says how many there were, or had to be.
    """
    return int(row.expires_at - row.changed_at // _MILLISECONDS)


def due_gone(connection: Connection, free: Mapping[str, int], now: float) -> list[Row[Any]]:
    """The forgotten jobs that upstreams have to delete now, in one statement that only reads.

    Of each upstream in `free`, so many that it was never asked about, and so many others (`is_repeated`); of either
    those that are due for longest. However many are due at an upstream, those of others are found by the index.
    """
    found = [
        _due(is_repeated).where(jobs.c.upstream == name, jobs.c.expires_at <= int(now)).limit(most).subquery()
        for name, most in free.items()
        for is_repeated in (False, True)
    ]
    return list(connection.execute(union_all(*(select(one) for one in found)))) if found else []


def _due(is_repeated: bool) -> Any:
    asked = literal_column(str(int(is_repeated)), Integer).label("is_repeated")
    query = select(jobs.c.upstream, jobs.c.request_id, jobs.c.reservation, asked)
    return query.where(GONE_AGAIN if is_repeated else GONE_FIRST).order_by(jobs.c.expires_at)


def stray_gone(connection: Connection, known: Collection[str], now: float) -> list[Row[Any]]:
    """A batch of those that are due at upstreams that are not known: nobody can be asked. Only reads."""
    columns = jobs.c.upstream, jobs.c.request_id, jobs.c.reservation
    query = select(*columns).where(jobs.c.state == int(JobState.GONE), jobs.c.expires_at <= int(now))
    return list(connection.execute(query.where(jobs.c.upstream.not_in(known)).limit(AT_ONCE)))


def claim_gone(connection: Connection, due: Sequence[Row[Any]], now: float) -> list[Row[Any]]:
    """Takes forgotten jobs that the upstream has to delete now; after a wait they are due again.

    No other replica gets them meanwhile, and no id becomes another job's so soon (_RESTS in ledger/jobs.py): the
    upstream may have given it already, and deletes what has it then. Returns the rows as they were; those that have
    waited for LAST_WAIT are no longer due.
    """
    those = any_of(due), jobs.c.state == int(JobState.GONE), jobs.c.expires_at <= int(now)
    rows = list(connection.execute(select(jobs).where(*those).with_for_update(skip_locked=True)))
    if rows:
        changed_at = milliseconds(now)
        expires_at = literal(changed_at // _MILLISECONDS, BigInteger) + _next_wait(int(now))
        connection.execute(update(jobs).where(any_of(rows)).values(changed_at=changed_at, expires_at=expires_at))
    return rows


def _next_wait(now: int) -> ColumnElement[Any]:
    """A second longer than the last wait, and than each attempt that was missed since; null after LAST_WAIT.

    An upstream that fails may have more to delete than it can be asked about: attempts come late then, but no more of
    them in all. At most _MOST_MISSED count: the gateway may have been off for days.
    """
    wait = case((last_wait < FIRST_WAIT, FIRST_WAIT - 1), else_=last_wait)
    missed = (now - jobs.c.expires_at) // (wait + 1)
    longer = wait + 1 + case((missed > _MOST_MISSED, _MOST_MISSED), else_=missed)
    return case((last_wait >= LAST_WAIT, null()), (longer > LAST_WAIT, LAST_WAIT), else_=longer)


def mark_deleted(connection: Connection, rows: Sequence[Row[Any]], now: float) -> None:
    """Records that the upstream has deleted jobs, or never will."""
    mine = any_of(rows), jobs.c.state == int(JobState.GONE)
    in_order = select(jobs.c.request_id).where(*mine).order_by(jobs.c.upstream, jobs.c.request_id)
    connection.execute(in_order.with_for_update()).all()
    connection.execute(update(jobs).where(*mine).values(expires_at=None, changed_at=milliseconds(now)))


def purge(connection: Connection, before: float) -> int:
    """Deletes old records of GONE jobs and of their reservations, a batch at a time; returns how many jobs."""
    old = jobs.c.state == int(JobState.GONE), jobs.c.expires_at.is_(None), jobs.c.created_at < int(before)
    query = select(jobs.c.upstream, jobs.c.request_id, jobs.c.reservation).where(*old)
    batch = query.order_by(jobs.c.created_at).limit(AT_ONCE).with_for_update(skip_locked=True)
    rows: list[Row[Any]] = list(connection.execute(batch))
    if rows:
        connection.execute(delete(jobs).where(any_of(rows)))
        connection.execute(delete(reservations).where(reservations.c.id.in_([row.reservation for row in rows])))
    return len(rows)


def purge_refunded(connection: Connection, before: float) -> int:
    """Deletes what was given back before a moment and has no job's id, a batch at a time; returns how many.

    No job came of it, or its job was deleted while it ran and refunded by an operator. A late step of such a submit
    finds nothing then, and does what it did when it found it: nothing.
    """
    rows = reservations.c
    over = rows.settled_at < int(before), rows.request_id.is_(None)
    return _delete_ended(connection, Stage.REFUNDED, before, *over)


def purge_ended(connection: Connection, stage: Stage, before: float) -> int:
    """Deletes reservations in an ended stage that no job has, a batch at a time; returns how many.

    They go a day later than jobs of that time: so only jobs that are older than `before` have to be looked through,
    which are few once `purge` is done.
    """
    old = jobs.c.created_at < int(before)
    if is_postgres(connection):
        has_none = ~exists().where(jobs.c.reservation == reservations.c.id, old)
    else:  # which would go through them again for each reservation
        has_none = reservations.c.id.not_in(select(jobs.c.reservation).where(old))
    # No submit takes a day, so a job's record is younger than its reservation by less.
    return _delete_ended(connection, stage, before - DAY, has_none)


def _delete_ended(connection: Connection, stage: Stage, before: float, *which: ColumnElement[bool]) -> int:
    those = ENDED, reservations.c.stage == int(stage), reservations.c.created_at < int(before), *which
    query = select(reservations.c.id).where(*those).order_by(reservations.c.created_at).limit(AT_ONCE)
    ids = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    if ids:
        connection.execute(delete(reservations).where(reservations.c.id.in_(ids)))
    return len(ids)
