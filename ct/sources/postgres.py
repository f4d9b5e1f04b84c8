"""PostgreSQL as a source: a span is the rows whose watermark lies in one bucket, for example in one day."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ct.sources.buckets import NO_SPAN, fills
from ct.sources.contract import Look, Offered, Unready
from ct.sources.failures import changed, unreachable
from ct.sources.postgres_query import NUMBERS, TIMES, BucketQuery, ColumnOf, quoted
from ct.sources.postgres_session import reading
from ct.sources.table_span import write_table_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ct.source_config import PostgresSourceConfig
    from ct.sources.connection import Connection
    from ct.sources.contract import Newest

HAS_XMIN = {"r", "p", "m"}
"""pg_class.relkind of tables, partitioned tables and materialized views: their rows say which transaction wrote them."""


class PostgresSource:
    """One table, view or query.

    Args:
        config: the source block.
        connection: an Airflow connection of type `postgres`; `schema` is the database.
        clock: Unix seconds.
    """

    keeps = False

    def __init__(
        self, config: PostgresSourceConfig, connection: Connection, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._connection = connection
        self._clock = clock
        host = f"{connection.host or 'localhost'}:{connection.port or 5432}"
        self._uri = f"postgresql://{host}/{connection.schema or ''}/{config.table or 'query'}"

    @property
    def address(self) -> str:
        """The beginning of each span's uri."""
        return f"{self._uri}#"

    def look(self, since: Newest | None) -> Look:
        """Buckets with rows, from `revisit` buckets before the newest span on; those that are not closed are unready."""
        with reading(self._connection, self._uri) as cursor:
            query, _ = self._query(cursor)
            first = query.first_revisited(since.name, self._config.revisit) if since else None
            found = [tuple(row.values()) for row in self._rows(cursor, query.buckets(first))]
        named = sorted(row for row in found if row[0] is not None)
        looked_at = [self._bucket(name, facts, newest=named[-1][0]) for name, *facts in named]
        offered = [bucket for bucket in looked_at if isinstance(bucket, Offered)]
        unready = [bucket for bucket in looked_at if isinstance(bucket, Unready)]
        homeless = sum(row[1] for row in found if row[0] is None)
        if homeless:
            reason = f"{homeless:,} rows have no usable value in {self._config.watermark}, so they are in no span"
            unready.append(Unready(NO_SPAN, f"{self._uri}#", str(homeless), reason))
        return Look(offered, unready)

    def fetch(self, offered: Offered, folder: Path) -> Path:
        """The bucket's rows as Parquet, ordered by the watermark, then by all other columns."""
        path = folder / f"{offered.name}.parquet"
        with reading(self._connection, self._uri) as cursor:
            query, columns = self._query(cursor)
            now = next(iter(self._rows(cursor, query.facts(offered.name))))
            if _fingerprint(list(now.values())) != offered.fingerprint:
                raise changed(offered.uri, "has changed since it was offered")
            cursor.execute(query.rows(offered.name, columns))
            with cursor.fetch_record_batch() as batches:
                # Without the metadata that names the server's types.
                schema = pa.schema([(column.name, column.type) for column in batches.schema])
                write_table_span(schema, self._received(batches, schema), path)
        return path

    def _received(self, batches: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The batches as the server sends them."""
        with self._receiving():
            for batch in batches:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def _rows(self, cursor: Any, sql: str) -> list[dict[str, Any]]:
        cursor.execute(sql)
        with self._receiving():
            rows: list[dict[str, Any]] = cursor.fetch_arrow_table().to_pylist()
        return rows

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        """What libpq says while rows come in, Arrow passes on in exceptions of its own."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise unreachable(self._uri, self._connection, str(error)) from None

    def _bucket(self, name: str, facts: list[Any], newest: str) -> Offered | Unready:
        """What a bucket is now. `newest`: the name of the last one that has rows."""
        uri = f"{self._uri}#{name}"
        span = self._config.span
        if isinstance(span, int):
            if name == newest:
                return Unready(name, uri, "filling", "no later number has arrived, so it may still fill")
            return Offered(name, uri, "parquet", _fingerprint(facts))
        waits = fills(name, span, lateness_s=self._config.lateness_s, now=self._clock())
        if waits is not None:
            return Unready(name, uri, "filling", *waits)
        return Offered(name, uri, "parquet", _fingerprint(facts))

    def _query(self, cursor: Any) -> tuple[BucketQuery, list[ColumnOf]]:
        """The query for this relation, whose columns are looked up each time, because tables change.

        Raises:
            SourceError: the watermark is missing or of no usable type.
        """
        config = self._config
        if config.table is not None:
            relation = ".".join(quoted(part) for part in config.table.split("."))
        else:
            relation = f"({config.query}\n)"  # the line end closes a comment
        cursor.execute(f"SELECT * FROM {relation} AS span_rows LIMIT 0")  # noqa: S608  quoted, or the user's own query
        with cursor.fetch_record_batch() as nothing:
            columns = [ColumnOf.of(column) for column in nothing.schema]
        mark = next((column for column in columns if column.name == config.watermark), None)
        wanted = NUMBERS if isinstance(config.span, int) else TIMES
        if mark is None or mark.type not in wanted:
            found = f"is {mark.type}" if mark else f"is not among {', '.join(column.name for column in columns)}"
            reason = (
                f"with `span: {config.span}` its watermark must be {_either(wanted)}, and {config.watermark} {found}"
            )
            raise unreachable(self._uri, self._connection, reason)
        return BucketQuery(relation, mark, config.span, "xmin" if self._has_xmin(cursor, relation) else "hash"), columns

    def _has_xmin(self, cursor: Any, relation: str) -> bool:
        if self._config.table is None:
            return False
        literal = relation.replace("'", "''")
        kinds = self._rows(cursor, f"SELECT relkind::text FROM pg_class WHERE oid = to_regclass('{literal}')")  # noqa: S608  quoted
        return any(row["relkind"] in HAS_XMIN for row in kinds)


def _fingerprint(facts: list[Any]) -> str:
    count, newest, change = facts
    return f"{count} rows to {newest}, {change}"


def _either(types: set[str]) -> str:
    return " or ".join(sorted(types))
