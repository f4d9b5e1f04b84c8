"""A test's tables in PostgreSQL: written to, and as a source."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from adbc_driver_postgresql import dbapi
from source_servers import PASSWORD, Server
from spans import NOON_OF_5_JANUARY

from ct.source_config import PostgresSourceConfig
from ct.sources.postgres import PostgresSource

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def writing(server: Server) -> Iterator[Any]:
    """A cursor that may write, each statement at once."""
    there = server.connection
    address = f"postgresql://{there.login}:{quote(PASSWORD, safe='')}@127.0.0.1:{there.port}/postgres"
    with dbapi.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def source(server: Server, *, now: float = NOON_OF_5_JANUARY, **change: Any) -> PostgresSource:
    """The source of `flights`, as of noon on 5 January."""
    settings = {"kind": "postgres", "connection": "warehouse", "table": "flights", "watermark": "at", **change}
    return PostgresSource(PostgresSourceConfig.model_validate(settings), server.connection, lambda: now)
