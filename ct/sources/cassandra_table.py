"""A table of Cassandra: which partitions belong to which span, and their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ct.sources.cassandra_rows import arrow_batch, arrow_type, span_of
from ct.sources.cassandra_session import UnusableTableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ct.source_config import CassandraSourceConfig, TimeSpan

ROWS_A_PAGE = 5000
WITHOUT_WRITE_TIME = ("list<", "set<", "map<", "counter")
"""Types of columns whose write time cannot be asked for."""


class CassandraTable:
    """The table as it is now; columns are looked up each time, because tables change.

    Raises:
        UnusableTableError: there is no such keyspace, table or column, or the bucket is not part of its partition key.
    """

    def __init__(self, session: Any, config: CassandraSourceConfig) -> None:
        keyspace = session.cluster.metadata.keyspaces.get(config.keyspace)
        table = keyspace.tables.get(config.table) if keyspace else None
        if table is None:
            raise UnusableTableError(f"there is no table {config.table} in the keyspace {config.keyspace}")
        self._session = session
        self._span: TimeSpan | None = config.span
        self._name = f"{_quoted(config.keyspace)}.{_quoted(config.table)}"
        self._key = [column.name for column in table.partition_key]
        if config.bucket not in self._key:
            raise UnusableTableError(f"its partition key is ({', '.join(self._key)}), without {config.bucket}")
        self._bucket_at = self._key.index(config.bucket)
        missing = [name for name in config.columns or () if name not in table.columns]
        if missing:
            raise UnusableTableError(f"it has no column {missing[0]}; columns: {', '.join(table.columns)}")
        wanted = config.columns or tuple(table.columns)
        self._types = {name: table.columns[name].cql_type for name in wanted}
        primary = {column.name for column in table.primary_key}
        self._timed = [
            name
            for name, column in table.columns.items()
            if name in wanted
            and name not in primary
            and not column.is_static
            and not column.cql_type.startswith(WITHOUT_WRITE_TIME)
        ]
        self.schema = pa.schema([(name, arrow_type(kind)) for name, kind in self._types.items()])

    def partitions(self) -> tuple[dict[str, list[tuple[Any, ...]]], list[Any]]:
        """Span's name -> its partition keys in order; and bucket values that name no span."""
        spans: dict[str, list[tuple[Any, ...]]] = {}
        homeless = []
        for key in self._paged(f"SELECT DISTINCT {_listed(self._key)} FROM {self._name}"):  # noqa: S608  names are quoted
            name = span_of(key[self._bucket_at], self._span)
            if name is None:
                homeless.append(key[self._bucket_at])
            else:
                spans.setdefault(name, []).append(key)
        return {name: sorted(keys) for name, keys in spans.items()}, homeless

    def fingerprint(self, keys: Sequence[tuple[Any, ...]]) -> str:
        """How many rows, and when the newest value was written (microseconds of the Unix time)."""
        times = "".join(f", max(writetime({_quoted(name)}))" for name in self._timed)
        counted = [next(iter(self._of_partition(f"count(*){times}", key))) for key in keys]
        written = [written for _, *times in counted for written in times if written is not None]
        return (
            f"{sum(count for count, *_ in counted)} rows in {len(keys)} partitions, newest {max(written, default=None)}"
        )

    def batches(self, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        """The rows of these partitions, in pages."""
        for key in keys:
            page: list[tuple[Any, ...]] = []
            for row in self._of_partition(_listed(self._types), key):
                page.append(row)
                if len(page) == ROWS_A_PAGE:
                    yield arrow_batch(page, self.schema, list(self._types.values()))
                    page = []
            if page:
                yield arrow_batch(page, self.schema, list(self._types.values()))

    def _of_partition(self, what: str, key: tuple[Any, ...]) -> Any:
        where = " AND ".join(f"{_quoted(name)} = ?" for name in self._key)
        query = self._session.prepare(f"SELECT {what} FROM {self._name} WHERE {where}")  # noqa: S608  names are quoted
        query.fetch_size = ROWS_A_PAGE
        return self._session.execute(query, key)

    def _paged(self, query: str) -> Any:
        from cassandra.query import SimpleStatement  # noqa: PLC0415

        return self._session.execute(SimpleStatement(query, fetch_size=ROWS_A_PAGE))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(_quoted(name) for name in names)
