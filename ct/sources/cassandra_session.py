"""A session with a Cassandra cluster."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ct.sources.failures import unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ct.sources.connection import Connection

DEFAULT_PORT = 9042
ANSWER_S = 60.0
"""Longest wait for one page, or for counting one partition."""


class UnusableTableError(Exception):
    """The table is not as the source block says; the message is the middle of a sentence. `reading` makes it a SourceError."""


@contextmanager
def reading(connection: Connection, uri: str) -> Iterator[Any]:
    """A session whose rows are tuples; gone afterwards, with its threads.

    Args:
        connection: an Airflow connection of type `cassandra`: `host` may list several hosts with commas; `extra` may hold
            `ssl_options` with `ca_certs`, `certfile` and `keyfile`.
        uri: what is read, for messages.

    Raises:
        SourceError: for whatever the cluster or the driver refuses inside.
    """
    from cassandra import ConsistencyLevel, DriverException  # noqa: PLC0415  pipelines without Cassandra need no driver
    from cassandra.auth import PlainTextAuthProvider  # noqa: PLC0415
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable  # noqa: PLC0415
    from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy  # noqa: PLC0415
    from cassandra.query import tuple_factory  # noqa: PLC0415

    logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # it logs user names; what matters is in our errors
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=ANSWER_S,
        row_factory=tuple_factory,
    )
    cluster = Cluster(
        (connection.host or "localhost").split(","),
        port=connection.port or DEFAULT_PORT,
        auth_provider=PlainTextAuthProvider(connection.login, connection.password) if connection.login else None,
        ssl_context=_ssl_context(connection.extra),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        application_name="ct",
    )
    try:
        yield cluster.connect()
    # Not `from error`: what the driver says names the user.
    except NoHostAvailable as error:
        reasons = "; ".join(f"{host}: {reason}" for host, reason in error.errors.items())
        raise unreachable(uri, connection, reasons or str(error)) from None
    except DriverException as error:
        raise unreachable(uri, connection, str(error) or type(error).__name__) from None
    except UnusableTableError as error:
        raise unreachable(uri, connection, str(error)) from None
    finally:
        cluster.shutdown()


def _ssl_context(extra: Mapping[str, Any]) -> Any:
    """None without `ssl_options`."""
    options = extra.get("ssl_options")
    if not options:
        return None
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context(cafile=options.get("ca_certs"))
    if options.get("certfile"):
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    return context
