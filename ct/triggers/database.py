"""The ledger's database, SQLite or PostgreSQL: opening it, bringing it up to date, and transactions of one writer at a time."""

from __future__ import annotations

import fcntl
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ct.errors import ConfigError, CTError
from ct.triggers import schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

BUSY_TIMEOUT_S = 30.0
"""Longest wait for another process's transaction. Transactions here take milliseconds."""
WRITES = "ct_writes"
"""The execution option of connections that take SQLite's write lock when their transaction begins."""
MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
"""Alembic's own table."""
LOCK_OF_CT = 0x6374
"""First key of the advisory locks; the second says what is locked."""
WHOLE_LEDGER = 0


class LedgerError(CTError):
    """The ledger's database cannot be used now. What was being written was not written."""

    retryable = True


class Database:
    """A ledger's database. Safe to use from several threads and processes.

    Connections are not pooled: Airflow forks its tasks, and connections must not cross a fork.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Database:
        """The database behind an SQLAlchemy URL, with its tables brought up to date. Many processes may do so at once.

        Raises:
            ConfigError: the URL is not one of SQLite or PostgreSQL.
            LedgerError: it cannot be reached, or a newer ct has changed its tables.
        """
        database = cls(_engine(url))
        if database._revision() != schema.REVISION:
            database._upgrade()
        return database

    @property
    def address(self) -> str:
        """Where it is, with the password hidden."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with."""
        with self._answering(), self._engine.connect() as connection:
            yield connection

    def read(self, query: sa.Select[Any]) -> list[Mapping[str, Any]]:
        """All rows of a query."""
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @contextmanager
    def writing(self, pipeline: str | None = None) -> Iterator[sa.Connection]:
        """A transaction that no other writer of this pipeline overlaps; without one, no other that writes no pipeline."""
        connecting = self._engine.connect().execution_options(**{WRITES: True})
        with self._answering(), connecting as connection, connection.begin():
            self._lock(connection, WHOLE_LEDGER if pipeline is None else zlib.crc32(pipeline.encode()) >> 1 or 1)
            yield connection

    def _lock(self, connection: sa.Connection, what: int) -> None:
        if self._engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_OF_CT, what)))

    def _revision(self) -> str | None:
        """Which migration the tables are of; None of tables that never had one, and where there are none."""
        with self.reading() as connection:
            if not sa.inspect(connection).has_table(VERSIONS.name):
                return None
            return connection.execute(sa.select(VERSIONS.c.version_num)).scalar_one_or_none()

    def _upgrade(self) -> None:
        with self.writing() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            if VERSIONS.name not in tables and schema.spans.name not in tables:
                schema.metadata.create_all(connection)
                VERSIONS.create(connection)
                connection.execute(sa.insert(VERSIONS).values(version_num=schema.REVISION))
                return
            if VERSIONS.name not in tables:
                VERSIONS.create(connection)
                connection.execute(sa.insert(VERSIONS).values(version_num="0001"))
            found = connection.execute(sa.select(VERSIONS.c.version_num)).scalar_one()
            if found != schema.REVISION:  # another process may have been faster
                self._migrate(connection, found)

    def _migrate(self, connection: sa.Connection, found: str) -> None:
        from alembic import command  # noqa: PLC0415  only an upgrade pays for it
        from alembic.config import Config  # noqa: PLC0415
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found not in known:
            raise LedgerError(
                f"The ledger {self.address} has tables of revision {found}, and this ct knows them up to "
                f"{schema.REVISION}: a newer ct has changed them. Nothing was read or written. Use that ct.",
                found=found,
                known=schema.REVISION,
            )
        command.upgrade(config, "head")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.OperationalError as error:
            raise LedgerError(
                f"The ledger {self.address} cannot be used: {error.orig}. What was being written was not. "
                "It is tried again where that helps; check that the database runs and has room.",
                address=self.address,
            ) from None  # the cause's text may hold what was written


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError(
            "`ledger_url` is not a URL of SQLAlchemy's kind, such as postgresql://user@host/database. Nothing was changed."
        ) from None  # the cause's text holds the URL, and with it a password
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ConfigError(
            f"`ledger_url` names {parsed.drivername}; the ledger is kept in sqlite or postgresql. Nothing was changed."
        )
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            "`ledger_url` names no file, and sqlite in memory is forgotten at once. Nothing was changed. Write sqlite:////path/to/file."
        )
    engine = sa.create_engine(parsed, poolclass=sa.NullPool, hide_parameters=True)
    if parsed.drivername == "sqlite":
        lock = Path(f"{parsed.database}.lock")
        sa.event.listen(engine, "connect", lambda connection, _: _prepare(connection, lock))
        sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, lock: Path) -> None:
    connection.isolation_level = None  # transactions begin in `_begin`, not where the driver guesses
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    # A file is switched once. Of processes that switch it at the same time, SQLite tells some that it is locked, and does
    # not wait for the busy timeout.
    try:
        with lock.open("w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            connection.execute("PRAGMA journal_mode = WAL")
    except OSError as error:
        raise LedgerError(
            f"The ledger {lock.with_suffix('')} cannot be used: {lock}: {error.strerror}. What was being written was not. "
            "Check that the folder can be written to, and has room.",
            path=str(lock),
        ) from error


def _begin(connection: sa.Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES) else "BEGIN")
