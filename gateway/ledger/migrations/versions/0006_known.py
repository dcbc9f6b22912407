"""What is known of a job's end: facts that are only ever added, so that replicas agree whoever learns what first."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column; of jobs that ended before, what is known follows from their state."""
    op.add_column("jobs", sa.Column("known", sa.SmallInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("jobs", "known")
