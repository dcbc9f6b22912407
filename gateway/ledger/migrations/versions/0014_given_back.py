"""An index of the jobs that were free and may yet be charged, by account: a reset looks for those of one account."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NAME = "ix_reservations_given_back"


def upgrade() -> None:
    """Makes it; versions before need nothing of it."""
    where = sa.text("given_back IS NOT NULL")
    op.create_index(_NAME, "reservations", ["account", "settled_at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drops it."""
    op.drop_index(_NAME, "reservations")
