"""Apache Cassandra as a source: a span is the rows of the partitions whose key names one time bucket."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from ct.sources.buckets import NO_SPAN, bucket_start, fills
from ct.sources.cassandra_session import DEFAULT_PORT, reading
from ct.sources.cassandra_table import CassandraTable
from ct.sources.contract import Look, Offered, Unready
from ct.sources.failures import changed
from ct.sources.table_span import write_table_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.source_config import CassandraSourceConfig
    from ct.sources.connection import Connection
    from ct.sources.contract import Newest


class CassandraSource:
    """One table.

    Args:
        config: the source block.
        connection: an Airflow connection of type `cassandra`.
        clock: Unix seconds.
    """

    keeps = False

    def __init__(
        self, config: CassandraSourceConfig, connection: Connection, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._connection = connection
        self._clock = clock
        host = (connection.host or "localhost").split(",")[0]
        self._uri = f"cassandra://{host}:{connection.port or DEFAULT_PORT}/{config.keyspace}/{config.table}"

    @property
    def address(self) -> str:
        """The beginning of each span's uri."""
        return f"{self._uri}#"

    def look(self, since: Newest | None) -> Look:
        """Buckets with rows, from `revisit` buckets before the newest span on; those that are not closed are unready."""
        config = self._config
        with reading(self._connection, self._uri) as session:
            table = CassandraTable(session, config)
            spans, homeless = table.partitions()
            names = sorted(spans)
            is_bucket = since and (config.span is None or bucket_start(since.name, config.span))
            first = max(0, bisect_left(names, since.name) - config.revisit) if since and is_bucket else 0
            unready = (
                [Unready(NO_SPAN, f"{self._uri}#", str(len(homeless)), _homeless(homeless, config))] if homeless else []
            )
            offered = []
            for name in names[first:]:
                uri = f"{self._uri}#{name}"
                waits = self._waits_for(name, newest=names[-1])
                if waits is None:
                    offered.append(Offered(name, uri, "parquet", table.fingerprint(spans[name])))
                else:
                    unready.append(Unready(name, uri, "filling", *waits))
        return Look(offered, unready)

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """The bucket's rows as Parquet, by partition, then in clustering order."""
        path = folder / f"{offered.name}.parquet"
        with reading(self._connection, self._uri) as session:
            table = CassandraTable(session, self._config)
            keys = table.partitions()[0].get(offered.name, [])
            write_table_span(table.schema, table.batches(keys), path)
            # Cassandra has no snapshots: what is the same after reading as it was when offered was the same all the while.
            now = table.fingerprint(keys)
        if now != offered.fingerprint:
            path.unlink()
            raise changed(offered.uri, "has changed since it was offered")
        return path

    def _waits_for(self, name: str, newest: str) -> tuple[str, float | None] | None:
        """Why the bucket is not closed, and for how many seconds; None when it is."""
        span = self._config.span
        if span is None:
            return ("no later bucket has rows, so it may still fill", None) if name == newest else None
        return fills(name, span, lateness_s=self._config.lateness_s, now=self._clock())


def _homeless(values: list[Any], config: CassandraSourceConfig) -> str:
    return f"{len(values):,} partitions, such as {values[0]!r}, name no {config.span or 'bucket'} in {config.bucket}"
