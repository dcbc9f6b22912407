"""Running jobs that their replica does not follow: read many at a time, and given up when they are too old."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from gateway.ledger.accounts import lock_all
from gateway.ledger.jobs import NewFacts, Recorded, any_of, job_ref, record_with_locks_held
from gateway.ledger.schema import JobState, jobs
from gateway.limits.job_cost import Facts, FailedCosts, Known
from gateway.model.jobs import JobRef

AT_ONCE: Final = 50


def running(connection: Connection, keys: Collection[JobRef]) -> list[Row[Any]]:
    """Those of some jobs that still run. Only reads."""
    query = select(jobs).where(any_of(keys)).order_by(jobs.c.created_at)
    return [row for row in connection.execute(query) if row.state == JobState.RUNNING]


def give_up(
    connection: Connection, keys: Collection[JobRef], now: float, ttl: float
) -> list[tuple[JobRef, Recorded]]:
    """Ends those that still run, with the fact that they ran for too long; what came of each.

    What a failed job costs is not known without its shape, and does not matter: no failure was reported.
    """
    lock_all(connection, {row.account for row in running(connection, keys)})
    left = [job_ref(row) for row in running(connection, keys)]  # none ends meanwhile: that takes the account's lock
    if not left:
        return []
    asked = [NewFacts(job, Facts(Known.GIVEN_UP), FailedCosts.NOTHING) for job in left]
    recorded = record_with_locks_held(connection, asked, now, ttl)
    return [(job, one) for job, one in zip(left, recorded, strict=True) if one is not None]
