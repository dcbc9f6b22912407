"""Run by Alembic: migrates over the connection that it is given, within the transaction that is open there."""

from alembic import context

from gateway.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
