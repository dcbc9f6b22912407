"""What was given back when a job failed: it is charged after all, should the job tell of a good end later."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column; what is there knows nothing of it."""
    op.add_column("reservations", sa.Column("given_back", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("reservations", "given_back")
