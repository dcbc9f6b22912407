"""Blocked callers by token and certificate; usage by mode."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes two tables; what was used before has no mode."""
    op.create_table(
        "blocks",
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "usage_by_mode",
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("requests", "failed", "pages", "refunded")),
        sa.Column("spend", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "day", "mode"),
    )
    op.create_index("ix_usage_by_mode_day", "usage_by_mode", ["day"])


def downgrade() -> None:
    """Drops them."""
    op.drop_table("usage_by_mode")
    op.drop_table("blocks")
