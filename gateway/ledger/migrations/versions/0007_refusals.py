"""Requests that were refused or failed, for a day: so that an operator can ask about one by its id."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their table."""
    op.create_table(
        "refusals",
        sa.Column("request_id", sa.String(length=64), primary_key=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("why", sa.String(length=16)),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("key_id", sa.String(length=600)),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.Text()),
    )
    op.create_index("ix_refusals_at", "refusals", ["at"])


def downgrade() -> None:
    """Drops it."""
    op.drop_table("refusals")
