"""The ledger's tables. A change here comes with a migration in ct/triggers/migrations/versions and a new `REVISION`."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa

REVISION = "0002"
"""The newest migration: what these tables are."""


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC; the databases keep it without its zone, so that is put back on reading."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002  SQLAlchemy's
        return None if value is None else value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002  signature
        return None if value is None else value.replace(tzinfo=timezone.utc)


metadata = sa.MetaData()

spans = sa.Table(
    "spans",
    metadata,
    sa.Column("pipeline", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("uri", sa.String, nullable=False),  # the local file
    sa.Column("format", sa.String, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("run_id", sa.String),
    sa.Column("source_uri", sa.String),  # its address in the source; the file's, where files are not copied
    sa.Column("rows", sa.BigInteger),
    sa.Column("rows_estimated", sa.Boolean),
    sa.Column("deleted", sa.String),  # NULL while the source lists it, else the policy: keep, forget
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pipeline", sa.String, nullable=False, index=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("message", sa.String, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("uri", sa.String, nullable=False, index=True),
    sa.Column("sha256", sa.String),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("mtime_ns", sa.BigInteger),  # of ledgers before 0002; the fingerprint holds it since
    sa.Column("fingerprint", sa.String),
    sa.Column("span", sa.String),  # the span that it is about; of a duplicate, the one seen before
    sa.Column("revision", sa.Integer),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("pipeline", sa.String, nullable=False, index=True),
    sa.Column("trigger", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("window", sa.JSON, nullable=False),  # [[name, revision], ...], oldest first
    sa.Column("claimed", sa.JSON, nullable=False),  # the same, of the spans that were new
    sa.Column("requested_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("message", sa.String, nullable=False, default=""),
    sa.Column("version", sa.Integer),
    sa.Column("airflow_dag_id", sa.String, nullable=False),
    sa.Column("airflow_run_id", sa.String, nullable=False),
    sa.Column("mlflow_run_id", sa.String),
    sa.Column("cause", sa.String),  # why it was skipped, in one word
    sa.UniqueConstraint("pipeline", "airflow_run_id"),
)
