"""Parquet as a span: the agreed columns in the agreed types, and the rows whose values may not be there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ct.sources.columns import ColumnType, check_names, refusal
from ct.sources.quarantine import BadRow
from ct.sources.suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ct.sources.columns import Column
    from ct.sources.quarantine import BadRows

NOT_PARQUET = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


def read_parquet(path: Path, columns: Sequence[Column], bad: BadRows) -> pa.Table:
    """The good rows of a Parquet file; the others go to `bad`, with their row numbers.

    Raises:
        SpanRefusedError: the file is cut or damaged, or a column is missing, unknown or of another type.
        OSError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            check_names(path, file.schema_arrow.names, columns)
            table = file.read(columns=[column.name for column in columns])
    except (*NOT_PARQUET, OSError) as error:
        raise refusal(path, f"it is not a whole Parquet file ({_first_line(error)})") from error
    typed = pa.table({column.name: _typed(path, table[column.name], column) for column in columns})
    wrong = suspects(typed, columns)
    if not wrong:
        return typed
    for row, (column_name, reason) in wrong.items():
        bad.add(BadRow(row + 1, column_name, reason, raw=_raw(typed, row), unit="row"))
    good = np.ones(typed.num_rows, dtype=bool)
    good[list(wrong)] = False
    return typed.filter(pa.array(good))


def _typed(path: Path, values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """The values in the agreed type, where no value changes its meaning."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    found = values.type
    agreed = column.type
    if not _ACCEPTED[agreed](found) and not pa.types.is_null(found):
        raise refusal(path, f'column "{column.name}" is {found}, {agreed.value} was agreed')
    if agreed is ColumnType.STRING and pa.types.is_timestamp(found):
        return _iso8601(values)
    try:
        # Rounding a double to 32 bits is agreed to, cutting 1.5 to 1 is not; bad UTF-8 is told row by row.
        lossy = {"allow_float_truncate": agreed is ColumnType.FLOAT, "allow_invalid_utf8": True}
        return values.cast(options=pc.CastOptions(agreed.arrow, **lossy))
    except NOT_PARQUET as error:
        reason = f'column "{column.name}" is {found}, {agreed.value} was agreed ({_first_line(error)})'
        raise refusal(path, reason) from error


def _iso8601(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps as text, `2013-01-01T05:00:00`, with a `Z` where the column knows its zone."""
    if times.type.tz is None:
        return pc.strftime(times.cast(pa.timestamp("s"), safe=False), "%Y-%m-%dT%H:%M:%S")
    return pc.strftime(times.cast(pa.timestamp("s", "UTC"), safe=False), "%Y-%m-%dT%H:%M:%SZ")


def _is_text(kind: pa.DataType) -> bool:
    is_ = pa.types
    return bool(is_.is_string(kind) or is_.is_large_string(kind) or is_.is_binary(kind) or is_.is_timestamp(kind))


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


_ACCEPTED: dict[ColumnType, Callable[[pa.DataType], bool]] = {
    ColumnType.STRING: _is_text,
    ColumnType.INT: _is_whole,  # a column of integers with gaps comes out of many writers as doubles
    ColumnType.FLOAT: _is_number,
}


def _raw(table: pa.Table, row: int) -> str:
    """The row's values as JSON, also where text is not UTF-8."""
    return json.dumps({name: _shown(table[name], row) for name in table.column_names})


def _shown(values: pa.ChunkedArray, row: int) -> Any:
    if pa.types.is_string(values.type):
        text: bytes | None = values.slice(row, 1).cast(pa.binary())[0].as_py()
        return None if text is None else text.decode("utf-8", "backslashreplace")
    return values[row].as_py()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
