"""The tables with the indexes that hold only some of their rows, for migrations and for comparisons with them.

SQLAlchemy imports an engine's dialect for its words in an index, and a gateway on SQLite never needs PostgreSQL's.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Index

from gateway.ledger.conditions import ENDED, GONE_AGAIN, GONE_FIRST, IS_READABLE, WAITS
from gateway.ledger.schema import audit, deliveries, jobs, reservations
from gateway.ledger.schema import metadata as tables


def _partial_index(name: str, *columns: Any, where: ColumnElement[bool], unique: bool = False) -> None:
    """Gives the columns' table an index of the rows that meet a condition."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


# Only what is in flight expires, so the index stays that small, however many jobs were settled.
_partial_index("ix_reservations_expires_at", reservations.c.expires_at, where=reservations.c.expires_at.is_not(None))
# Those without a job are found by their age alone, and so by stage, since some go sooner than others.
_partial_index("ix_reservations_ended", reservations.c.stage, reservations.c.created_at, where=ENDED)
# Free jobs that later facts may charge: a reset looks for those of one account that seem later than it.
_partial_index(
    "ix_reservations_given_back", reservations.c.account, reservations.c.settled_at,
    where=reservations.c.given_back.is_not(None),
)  # fmt: skip
_partial_index("ix_audit_untold", audit.c.id, where=audit.c.untold.is_not(None))
for _column in (jobs.c.changed_at, jobs.c.expires_at):
    _partial_index(f"ix_jobs_{_column.name}", _column, where=_column.is_not(None))
# However long deletions are overdue at an upstream, nobody goes through them to find what else is due.
_partial_index("ix_jobs_gone_first", jobs.c.upstream, jobs.c.expires_at, where=GONE_FIRST)
_partial_index("ix_jobs_gone_again", jobs.c.upstream, jobs.c.expires_at, where=GONE_AGAIN)
_partial_index("ix_jobs_readable", jobs.c.expires_at, where=IS_READABLE & jobs.c.expires_at.is_not(None))
_partial_index("ix_jobs_living", jobs.c.state, jobs.c.watcher, where=IS_READABLE)
# With the id: very many may be due in one second, and a claim would put all of them in order.
_partial_index(
    "ix_deliveries_next_at", deliveries.c.next_at, deliveries.c.id, where=deliveries.c.next_at.is_not(None)
)
# From owner to owner, and of each the first that is due: claims look there when very many wait.
_partial_index(
    "ix_deliveries_turns", deliveries.c.owner, deliveries.c.next_at, deliveries.c.id,
    where=deliveries.c.next_at.is_not(None),
)  # fmt: skip
_partial_index("uq_deliveries_waiting", deliveries.c.upstream, deliveries.c.request_id, where=WAITS, unique=True)

metadata: Final = tables
