"""What a refusal was headed, where that says more than its reason: `Page budget used up until 2026-12-01`."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it; versions before leave it null."""
    op.add_column("refusals", sa.Column("title", sa.String(length=100)))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("refusals", "title")
