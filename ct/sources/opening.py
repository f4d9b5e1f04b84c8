"""From the `source` block of pipeline.yaml to the source itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.errors import SourceError
from ct.source_config import (
    CassandraSourceConfig,
    FolderSourceConfig,
    KafkaSourceConfig,
    PostgresSourceConfig,
    RedisSourceConfig,
    S3SourceConfig,
)
from ct.sources.folder import FolderSource

if TYPE_CHECKING:
    from ct.config import PipelineConfig
    from ct.home import Home
    from ct.source_config import SourceConfig
    from ct.sources.connection import Connection
    from ct.sources.contract import Source

RemoteSourceConfig = (
    S3SourceConfig | PostgresSourceConfig | CassandraSourceConfig | KafkaSourceConfig | RedisSourceConfig
)
CONNECTION_TYPES = {
    "s3": "aws",
    "postgres": "postgres",
    "cassandra": "cassandra",
    "kafka": "kafka",
    "redis": "redis",
}
"""The kind of source -> the type of its Airflow connection."""
ANY_TYPE = "generic"
"""What Airflow's UI offers where the provider of a type is not installed."""


def connection_id(source: SourceConfig) -> str | None:
    """The Airflow connection that this source needs, or None when it needs none."""
    return None if isinstance(source, FolderSourceConfig) else source.connection


def open_source(config: PipelineConfig, home: Home, connection: Connection | None) -> Source:
    """The pipeline's source. Nothing is connected to before the first look.

    Args:
        config: the pipeline.
        home: relative folders begin there.
        connection: the one that `connection_id` names, as it is now.

    Raises:
        SourceError: the connection is missing or of another type than the source needs.
    """
    source = config.source
    if isinstance(source, FolderSourceConfig):
        folder = home.root / (source.path or f"landing/{config.name}")
        return FolderSource(folder, source.pattern, settle_s=config.trigger.settle_s)
    if connection is None and source.connection is not None:
        raise _unusable(config, "does not exist")
    wanted = CONNECTION_TYPES[source.kind]
    if connection is not None and connection.conn_type not in (wanted, ANY_TYPE):
        raise _unusable(
            config, f"is of type {connection.conn_type}; a source of kind {source.kind} needs type {wanted}"
        )
    return _remote(source, connection)


def _remote(source: RemoteSourceConfig, connection: Connection | None) -> Source:
    """A pipeline loads the driver of its own source only."""
    if isinstance(source, S3SourceConfig):
        from ct.sources.object_store import ObjectStoreSource  # noqa: PLC0415

        return ObjectStoreSource(source, connection)
    if connection is None:
        raise ValueError(f"a source of kind {source.kind} needs a connection")
    if isinstance(source, PostgresSourceConfig):
        from ct.sources.postgres import PostgresSource  # noqa: PLC0415

        return PostgresSource(source, connection)
    if isinstance(source, CassandraSourceConfig):
        from ct.sources.cassandra import CassandraSource  # noqa: PLC0415

        return CassandraSource(source, connection)
    if isinstance(source, KafkaSourceConfig):
        from ct.sources.kafka import KafkaSource  # noqa: PLC0415

        return KafkaSource(source, connection)
    from ct.sources.redis_stream import RedisStreamSource  # noqa: PLC0415

    return RedisStreamSource(source, connection)


def _unusable(config: PipelineConfig, what: str) -> SourceError:
    name = connection_id(config.source)
    return SourceError(
        f'Cannot open the source of {config.name}: the Airflow connection "{name}" {what}. Nothing was read. '
        "See it in Airflow's UI under Admin, Connections; docs/sources.md says what belongs in it.",
        pipeline=config.name,
        connection=name,
    )
