"""Indexes of deletions that are due, by upstream, and of results whose time will be over."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WHERE = {
    "ix_jobs_gone_first": "state = 3 AND expires_at - changed_at / 1000 < 60",
    "ix_jobs_gone_again": "state = 3 AND expires_at - changed_at / 1000 >= 60",
    "ix_jobs_readable": "state != 3 AND expires_at IS NOT NULL",
}


def upgrade() -> None:
    """Makes them; versions before use none of them."""
    for name, text in _WHERE.items():
        where = sa.text(text)
        columns = ["expires_at"] if name == "ix_jobs_readable" else ["upstream", "expires_at"]
        op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drops them."""
    for name in _WHERE:
        op.drop_index(name, "jobs")
