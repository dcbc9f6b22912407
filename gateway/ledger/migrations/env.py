"""Run by Alembic: migrates over the given connection, within its open transaction."""

from alembic import context

from gateway.ledger.indexes import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
