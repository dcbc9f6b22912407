"""Ends of jobs, as a container tells of them."""

from sqlalchemy import Connection

from gateway.ledger.jobs import Recorded, find, job_ref, record_facts
from gateway.limits.job_cost import Facts, FailedCosts, Known
from gateway.model.jobs import JobRef


def job_of(connection: Connection, job: tuple[str, str]) -> JobRef:
    """The job that has an id now."""
    row = find(connection, *job)
    return JobRef(*job, "none") if row is None else job_ref(row)


def end(
    connection: Connection, job: tuple[str, str], pages: int | None, now: float, ttl: float, *, failed: bool
) -> Recorded | None:
    """Lets the ledger know that a job has ended, well or not."""
    facts = Facts(Known.FAILED if failed else Known.COMPLETE, pages)
    return record_facts(connection, job_of(connection, job), facts, FailedCosts.IF_TAKEN, now, ttl)
