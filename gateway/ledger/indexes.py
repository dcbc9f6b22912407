"""The tables with the indexes that hold only some of their rows, for migrations and for comparisons with them.

SQLAlchemy imports an engine's dialect for its words in an index, and a gateway on SQLite never needs PostgreSQL's.
"""

from typing import Final

from sqlalchemy import Index

from gateway.ledger.expiry import ENDED, GONE_AGAIN, GONE_FIRST, IS_READABLE
from gateway.ledger.schema import DeliveryState, JobState, audit, deliveries, jobs, reservations
from gateway.ledger.schema import metadata as tables

# Only what is in flight expires, so the index stays that small, however many jobs were settled.
Index(
    "ix_reservations_expires_at",
    reservations.c.expires_at,
    sqlite_where=reservations.c.expires_at.is_not(None),
    postgresql_where=reservations.c.expires_at.is_not(None),
)
# Those without a job are found by their age alone, and so by stage, since some go sooner than others.
Index(
    "ix_reservations_ended",
    reservations.c.stage,
    reservations.c.created_at,
    sqlite_where=ENDED,
    postgresql_where=ENDED,
)
Index(
    "ix_audit_untold",
    audit.c.id,
    sqlite_where=audit.c.untold.is_not(None),
    postgresql_where=audit.c.untold.is_not(None),
)
for _column in (jobs.c.changed_at, jobs.c.expires_at):
    Index(
        f"ix_jobs_{_column.name}",
        _column,
        sqlite_where=_column.is_not(None),
        postgresql_where=_column.is_not(None),
    )
# However long deletions are overdue at an upstream, nobody goes through them to find what else is due.
for _name, _where in (("gone_first", GONE_FIRST), ("gone_again", GONE_AGAIN)):
    Index(f"ix_jobs_{_name}", jobs.c.upstream, jobs.c.expires_at, sqlite_where=_where, postgresql_where=_where)
_readable: Final = IS_READABLE & jobs.c.expires_at.is_not(None)
Index("ix_jobs_readable", jobs.c.expires_at, sqlite_where=_readable, postgresql_where=_readable)
_lives: Final = jobs.c.state != int(JobState.GONE)
Index("ix_jobs_living", jobs.c.state, jobs.c.watcher, sqlite_where=_lives, postgresql_where=_lives)
Index(
    "ix_deliveries_next_at",
    deliveries.c.next_at,
    sqlite_where=deliveries.c.next_at.is_not(None),
    postgresql_where=deliveries.c.next_at.is_not(None),
)
_waits: Final = deliveries.c.state == int(DeliveryState.WAITING)
Index(
    "uq_deliveries_waiting",
    deliveries.c.upstream,
    deliveries.c.request_id,
    unique=True,
    sqlite_where=_waits,
    postgresql_where=_waits,
)

metadata: Final = tables
