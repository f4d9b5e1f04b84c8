"""The ledger's tables, and how its database is opened."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import sqlite3

BUSY_TIMEOUT_S = 30.0
"""Longest wait for another process's transaction. Transactions here take milliseconds."""
WRITES = "ct_writes"
"""The execution option of connections that take SQLite's write lock when their transaction begins."""


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC; SQLite forgets zones, so they are put back on reading."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=timezone.utc)


metadata = sa.MetaData()

spans = sa.Table(
    "spans",
    metadata,
    sa.Column("pipeline", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("uri", sa.String, nullable=False),
    sa.Column("format", sa.String, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("run_id", sa.String),
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
    sa.Column("mtime_ns", sa.BigInteger),
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
    sa.UniqueConstraint("pipeline", "airflow_run_id"),
)


def open_database(url: str) -> sa.Engine:
    """An engine with the tables in place. Opening the same database from many processes at once is safe.

    Connections are not pooled: Airflow forks its tasks, and SQLite's connections must not cross a fork.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        metadata.create_all(connection)
    return engine


def _prepare(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001  SQLAlchemy's signature
    connection.isolation_level = None  # transactions begin in `_begin`, not where the driver guesses
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")


def _begin(connection: sa.Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES) else "BEGIN")
