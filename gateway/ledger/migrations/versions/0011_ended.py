"""Index of ended reservations, by which those without a job are found when they are old."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NAME = "ix_reservations_ended"


def upgrade() -> None:
    """Makes it; versions before do not use it."""
    where = sa.text("stage >= 3")
    op.create_index(_NAME, "reservations", ["stage", "created_at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drops it."""
    op.drop_index(_NAME, "reservations")
