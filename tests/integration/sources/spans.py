"""What the tests of every source need: a span of the ledger, and a fetched span as ExampleGen would read it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pyarrow as pa

from ct.sources.columns import Column, ColumnType
from ct.sources.contract import Newest
from ct.sources.reader import read_span
from ct.sources.span_file import SpanFile

if TYPE_CHECKING:
    from pathlib import Path

NOON_OF_5_JANUARY = datetime(2013, 1, 5, 12, tzinfo=timezone.utc).timestamp()


def newest(name: str) -> Newest:
    """The newest span that the ledger has of a table."""
    return Newest(name, f"x#{name}")


def read(path: Path, **types: ColumnType) -> pa.Table:
    """The rows of a fetched span with these required columns; refused where one row is bad."""
    columns = [Column(name, kind, required=True) for name, kind in types.items()]
    schema = pa.schema([(column.name, column.type.arrow) for column in columns])
    span, quarantine = SpanFile(path.stem, path), path.parent / "quarantine"
    with read_span(span, path.suffix[1:], columns, max_bad_rows=0, quarantine_to=quarantine) as stream:
        return pa.Table.from_batches(stream, schema)
