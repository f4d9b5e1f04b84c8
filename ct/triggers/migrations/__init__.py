"""Alembic's folder: one module a change of the ledger's tables."""
