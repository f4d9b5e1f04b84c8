"""Rows of a table as one Parquet file: the same rows in the same order give the same bytes, in memory that does not grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ROWS_A_GROUP = 65_536
"""Of a row group, whatever the size of the batches in which the rows came; memory holds about two of them."""


def write_table_span(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Write the rows in the order in which they come, and return how many there were.

    The bytes depend on rows, types and pyarrow's version only, not on how the rows were batched.

    Raises:
        OSError: the disk is full or not writable.
    """
    rows = 0
    pending: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            rows += batch.num_rows
            pending.append(batch)
            waiting = pa.Table.from_batches(pending, schema)
            whole = waiting.num_rows - waiting.num_rows % ROWS_A_GROUP
            if whole:
                _write(writer, waiting.slice(0, whole))
                pending = waiting.slice(whole).to_batches()
        if pending:
            _write(writer, pa.Table.from_batches(pending, schema))
    return rows


def _write(writer: pq.ParquetWriter, table: pa.Table) -> None:
    # Pages are cut where chunks end, so each row group is one chunk.
    for begin in range(0, table.num_rows, ROWS_A_GROUP):
        writer.write_table(table.slice(begin, ROWS_A_GROUP).combine_chunks(), row_group_size=ROWS_A_GROUP)
