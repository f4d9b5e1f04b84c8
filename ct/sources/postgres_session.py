"""A read-only transaction on a PostgreSQL server."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ct.sources.failures import unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct.sources.connection import Connection

LIBPQ = {
    *(
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslcrl",
        "channel_binding",
        "gssencmode",
        "krbsrvname",
        "target_session_attrs",
    ),
    *(
        "connect_timeout",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "options",
    ),
}
"""Keys of the connection's extra that libpq takes; other keys are for other programs."""
DEFAULTS = {
    "connect_timeout": "10",  # seconds
    "keepalives_idle": "30",  # seconds; a server that vanished without a word is noticed
    "tcp_user_timeout": "60000",  # milliseconds
    "application_name": "ct",
}
SESSION = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",  # count and rows come from one snapshot
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'iso_8601'",
    "SET LOCAL lock_timeout = '30s'",
)


@contextmanager
def reading(connection: Connection, uri: str) -> Iterator[Any]:
    """An ADBC cursor in a transaction that cannot write and sees one snapshot; both are gone afterwards.

    Args:
        connection: an Airflow connection of type `postgres`; `schema` is the database.
        uri: what is read, for messages.

    Raises:
        SourceError: for whatever the server or the driver refuses inside.
    """
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415  pipelines without PostgreSQL need no driver

    try:
        with dbapi.connect(_address(connection)) as session, session.cursor() as cursor:
            for setting in SESSION:
                cursor.execute(setting)
            yield cursor
    except dbapi.Error as error:
        # Not `from error`: what a driver says may hold the address with its password.
        raise unreachable(uri, connection, str(error).split("Query was:")[0]) from None


def _address(connection: Connection) -> str:
    """What libpq connects to; holds the password."""
    extra = {key: str(value) for key, value in connection.extra.items() if key in LIBPQ}
    user = quote(connection.login or "", safe="")
    secret = f":{quote(connection.password, safe='')}" if connection.password else ""
    host = quote(connection.host or "localhost", safe=":[]")
    database = quote(connection.schema or connection.login or "", safe="")
    settings = urlencode({**DEFAULTS, **extra}, quote_via=quote)
    return f"postgresql://{user}{secret}@{host}:{connection.port or 5432}/{database}?{settings}"
