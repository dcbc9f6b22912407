"""Ends of jobs, as a container tells of them."""

from sqlalchemy import Connection

from gateway.ledger.jobs import JobKey, Learnt, learn
from gateway.limits.job_cost import Facts, FailedCosts, Known


def end(
    connection: Connection, job: tuple[str, str], pages: int | None, now: float, ttl: float, *, failed: bool
) -> Learnt | None:
    """Lets the ledger know that a job has ended, well or not."""
    facts = Facts(Known.FAILED if failed else Known.COMPLETE, pages)
    return learn(connection, JobKey(*job, created_at=now), facts, FailedCosts.IF_TAKEN, now, ttl)
