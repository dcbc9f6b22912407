"""Checkpoints: whose they are, as long as results can be read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their table."""
    op.create_table(
        "checkpoints",
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("checkpoint", sa.String(length=256), nullable=False),
        sa.Column("owner", sa.String(length=600), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("upstream", "checkpoint", "owner"),
    )
    op.create_index("ix_checkpoints_expires_at", "checkpoints", ["expires_at"])


def downgrade() -> None:
    """Drops it."""
    op.drop_table("checkpoints")
