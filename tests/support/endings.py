"""Ends of jobs, as a container tells of them."""

from sqlalchemy import Connection, select

from gateway.ledger import closing, reservations
from gateway.ledger.accounts import lock
from gateway.ledger.closing import Settled
from gateway.ledger.jobs import Recorded, find, job_ref, record_facts
from gateway.ledger.schema import Stage, accounts
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


def settle(
    connection: Connection, account: str, reservation: str, pages: int | None, now: float, *, failed: bool
) -> Settled | None:
    """Charges what a job cost, of its reservation alone; None: it does not exist, or nothing changes."""
    lock(connection, account)
    row = reservations.find(connection, reservation)
    if row is None:
        return None
    reset_at = select(accounts.c.reset_at).where(accounts.c.account == account)
    last = connection.execute(reset_at).scalar_one() if row.stage == Stage.CHARGED else 0
    end = closing.settle(row, pages, now, last, failed=failed)
    if end is None:
        return None
    reservations.apply(connection, end)
    return end.settled
