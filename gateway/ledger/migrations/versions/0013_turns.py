"""Indexes of waiting webhooks: by owner, where each one's first is beside very many of others; by time and id."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_BY_OWNER = "ix_deliveries_turns"
_BY_TIME = "ix_deliveries_next_at"


def _make(name: str, *columns: str) -> None:
    where = sa.text("next_at IS NOT NULL")
    op.create_index(name, "deliveries", columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    """Makes them; versions before need neither owner nor id in them.

    To drop one takes PostgreSQL's strongest lock of the table, so that is first. Behind a weaker one, a claim of
    another replica that has read would wait to write, and this for it: of the two one failed.
    """
    op.drop_index(_BY_TIME, "deliveries")
    _make(_BY_TIME, "next_at", "id")
    _make(_BY_OWNER, "owner", "next_at", "id")


def downgrade() -> None:
    """Makes what was there."""
    op.drop_index(_BY_TIME, "deliveries")
    op.drop_index(_BY_OWNER, "deliveries")
    _make(_BY_TIME, "next_at")
