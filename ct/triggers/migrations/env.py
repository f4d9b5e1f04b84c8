"""Run by Alembic. The caller gives the connection, inside the transaction that all migrations are to be part of."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
