"""The tables as they were before the ledger had migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make spans, events and runs."""
    op.create_table(
        "spans",
        sa.Column("pipeline", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("uri", sa.String, nullable=False),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("run_id", sa.String),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("pipeline", sa.String, nullable=False, index=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("uri", sa.String, nullable=False, index=True),
        sa.Column("sha256", sa.String),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("mtime_ns", sa.BigInteger),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("pipeline", sa.String, nullable=False, index=True),
        sa.Column("trigger", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("window", sa.JSON, nullable=False),
        sa.Column("claimed", sa.JSON, nullable=False),
        sa.Column("requested_at", sa.DateTime, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("airflow_dag_id", sa.String, nullable=False),
        sa.Column("airflow_run_id", sa.String, nullable=False),
        sa.Column("mlflow_run_id", sa.String),
        sa.UniqueConstraint("pipeline", "airflow_run_id"),
    )
