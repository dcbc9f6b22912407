"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes all tables, and the rows of counters."""
    op.create_table(
        "accounts",
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("tat", sa.BigInteger(), nullable=False),
        sa.Column("concurrent", sa.Integer(), nullable=False),
        sa.Column("pages_in_flight", sa.BigInteger(), nullable=False),
        sa.Column("reset_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=600), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_grants_account"), "grants", ["account"], unique=False)
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("profile", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_keys_revision"), "keys", ["revision"], unique=False)
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("owner", sa.String(length=600), nullable=False),
        sa.Column("stage", sa.SmallInteger(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=256), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("upstream", "request_id", name="uq_reservations_request_id"),
    )
    op.create_index(
        "ix_reservations_expires_at",
        "reservations",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "secrets",
        sa.Column("key_id", sa.String(length=63), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("operation", sa.String(length=128), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", "generation"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("key_id", "operation", name="uq_secrets_operation"),
    )
    op.create_table(
        "usage",
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("spend", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "day"),
    )
    op.create_index(op.f("ix_usage_day"), "usage", ["day"], unique=False)
    op.create_table(
        "windows",
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(length=600), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.Column("spend", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("period", "account"),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('keys', 0), ('beat', 0)")
    # SQLite's random() has 64 bits, PostgreSQL's is a fraction: either way a number that no two ledgers share.
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    number = "random() & 4611686018427387903" if is_sqlite else "floor(random() * 4611686018427387904)::bigint"
    op.execute(f"INSERT INTO counters (name, value) VALUES ('ledger', {number})")  # noqa: S608 -- a constant


def downgrade() -> None:
    """Drops all tables."""
    op.drop_table("windows")
    op.drop_index(op.f("ix_usage_day"), table_name="usage")
    op.drop_table("usage")
    op.drop_table("secrets")
    op.drop_index(
        "ix_reservations_expires_at",
        table_name="reservations",
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.drop_table("reservations")
    op.drop_index(op.f("ix_keys_revision"), table_name="keys")
    op.drop_table("keys")
    op.drop_index(op.f("ix_grants_account"), table_name="grants")
    op.drop_table("grants")
    op.drop_table("counters")
    op.drop_table("audit")
    op.drop_table("accounts")
