"""Jobs, webhooks out and in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes their tables."""
    op.create_table(
        "jobs",
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=256), nullable=False),
        sa.Column("reservation", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("owner", sa.String(length=600), nullable=False),
        sa.Column("shape", sa.String(length=63), nullable=False),
        sa.Column("path", sa.String(length=2048), nullable=False),
        sa.Column("check_url", sa.Text(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=True),
        sa.Column("watcher", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("upstream", "request_id"),
    )
    op.create_index("ix_jobs_owner", "jobs", ["owner", "created_at"])
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    for column in ("changed_at", "expires_at"):
        _index_partly("jobs", column)
    lives = sa.column("state") != sa.literal_column("3")
    op.create_index("ix_jobs_living", "jobs", ["state", "watcher"], sqlite_where=lives, postgresql_where=lives)
    op.create_table(
        "replicas",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("alive_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=256), nullable=False),
        sa.Column("owner", sa.String(length=600), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("destination", sa.String(length=300), nullable=False),
        sa.Column("check_url", sa.Text(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("leased_by", sa.String(length=32), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("upstream", "request_id", name="uq_deliveries_job"),
    )
    op.create_index("ix_deliveries_destination", "deliveries", ["destination"])
    op.create_index("ix_deliveries_created_at", "deliveries", ["created_at"])
    _index_partly("deliveries", "next_at")
    op.create_table(
        "received",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("request_id", sa.String(length=256), nullable=False),
        sa.Column("handled", sa.SmallInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "request_id"),
    )
    op.create_index("ix_received_until", "received", ["until"])


def downgrade() -> None:
    """Drops them."""
    for table in ("received", "deliveries", "replicas", "jobs"):
        op.drop_table(table)


def _index_partly(table: str, column: str) -> None:
    is_there = sa.column(column).is_not(None)
    op.create_index(f"ix_{table}_{column}", table, [column], sqlite_where=is_there, postgresql_where=is_there)
