"""The audit trail: records that no log was told of, actors as long as owners are, jobs' first reads."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns and indexes; what is there counts as told."""
    with op.batch_alter_table("audit") as batch:  # SQLite changes no type in place: the table is copied
        batch.alter_column("actor", type_=sa.String(length=600), existing_nullable=False)
        batch.add_column(sa.Column("untold", sa.SmallInteger(), nullable=True))
    op.add_column("jobs", sa.Column("read_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_action", "audit", ["action", "id"])
    is_untold = sa.column("untold").is_not(None)
    op.create_index("ix_audit_untold", "audit", ["id"], sqlite_where=is_untold, postgresql_where=is_untold)


def downgrade() -> None:
    """Drops them."""
    for index in ("ix_audit_untold", "ix_audit_action", "ix_audit_at"):
        op.drop_index(index, "audit")
    op.drop_column("jobs", "read_at")
    op.drop_column("audit", "untold")
