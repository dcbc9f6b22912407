"""Webhooks of jobs that have left their id to others: only those that wait for a job's end are one for each id."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_JOB = ["upstream", "request_id"]
_OLDER = sa.text("""
DELETE FROM deliveries WHERE EXISTS (
    SELECT 1 FROM deliveries AS later
    WHERE later.upstream = deliveries.upstream AND later.request_id = deliveries.request_id
        AND (later.created_at > deliveries.created_at
            OR (later.created_at = deliveries.created_at AND later.id > deliveries.id))
)""")


def upgrade() -> None:
    """Lets an id have several; versions before find theirs by its state, and delete the others before they plan."""
    with op.batch_alter_table("deliveries") as batch:  # SQLite makes the table anew
        batch.drop_constraint("uq_deliveries_job", type_="unique")
    op.create_index("ix_deliveries_job", "deliveries", _JOB)
    waits = sa.column("state") == sa.literal_column("0")
    op.create_index(
        "uq_deliveries_waiting", "deliveries", _JOB, unique=True, sqlite_where=waits, postgresql_where=waits
    )


def downgrade() -> None:
    """Leaves each id its latest one alone."""
    op.execute(_OLDER)
    op.drop_index("uq_deliveries_waiting", "deliveries")
    op.drop_index("ix_deliveries_job", "deliveries")
    with op.batch_alter_table("deliveries") as batch:
        batch.create_unique_constraint("uq_deliveries_job", _JOB)
