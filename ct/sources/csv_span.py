"""CSV as a span: Arrow's parser where the file is plainly well formed, row by row where it is not."""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv

from ct.sources.careful import count_rows, read_header, read_rows
from ct.sources.columns import check_names
from ct.sources.suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ct.sources.columns import Column
    from ct.sources.quarantine import BadRows

READ_QUIETLY_BY_ARROW = re.compile(rb"\0|\n[\r\n]|\r\r|0[xX]")
"""A NUL, an empty line (becomes a row of nulls), a hexadecimal integer: Arrow takes them without a word."""


def read_csv(path: Path, columns: Sequence[Column], bad: BadRows) -> pa.Table:
    """The good rows of a CSV file that is not empty; the others go to `bad`.

    Raises:
        SpanRefusedError: the header is not as agreed, or rows cannot be told apart.
        OSError: the file cannot be read.
    """
    header = read_header(path)
    check_names(path, header, columns)
    table = _read_fast(path, len(header), columns)
    return read_rows(path, header, columns, bad) if table is None else table


def _read_fast(path: Path, width: int, columns: Sequence[Column]) -> pa.Table | None:
    """The whole table, or None when anything about the file or its values needs a closer look."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        has_quotes = view.find(b'"') >= 0
        if READ_QUIETLY_BY_ARROW.search(view) or view[-1:] not in (b"\n", b"\r"):
            return None
    # Arrow lets the end of the file close a quote, and so may take thousands of rows for one field.
    rows = count_rows(path, width) if has_quotes else None
    if has_quotes and rows is None:
        return None
    try:
        table = pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(newlines_in_values=has_quotes, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types={column.name: column.type.arrow for column in columns},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                include_columns=[column.name for column in columns],
            ),
        )
    except pa.ArrowException:
        return None
    if (rows is not None and rows != table.num_rows) or suspects(table, columns):
        return None
    return table
