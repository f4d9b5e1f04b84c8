"""Rows that serving logged, as statistics can take them. Read as files; serving's code is another plane's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ct.sources.reader import Column

MOST_ROWS = 200_000
"""The newest ones; more would cost time and change no distance that matters."""
SHADOW = "shadow"


def logged_rows(folder: Path, columns: Sequence[Column]) -> pa.Table:
    """The newest rows of a model's prediction log, at most MOST_ROWS or a file more.

    Args:
        folder: `CT_HOME/predictions/<model>`; it need not exist.
        columns: of the schema; those that requests do not carry, such as the label, are not in the table.

    Returns:
        The columns that any of these files has. What a shadow answered is left out: its rows are the champion's, again.
    """
    tables: list[pa.Table] = []
    rows = 0
    for table in _tables(folder, columns):
        tables.append(table)
        rows += table.num_rows
        if rows >= MOST_ROWS:
            break
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _tables(folder: Path, columns: Sequence[Column]) -> Iterator[pa.Table]:
    for path in sorted(folder.glob("**/*.parquet"), key=lambda path: path.relative_to(folder).as_posix(), reverse=True):
        try:
            with pq.ParquetFile(path) as file:
                here = [column for column in columns if column.name in file.schema_arrow.names]
                table = file.read(columns=["ct_variant", *(column.name for column in here)])
        except FileNotFoundError:
            continue  # past the log's budget; a serving worker removed it
        chosen = table.filter(pc.not_equal(table["ct_variant"].cast(pa.string()), SHADOW))
        yield pa.table({column.name: chosen[column.name].cast(column.type.arrow) for column in here})
