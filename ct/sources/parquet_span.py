"""Parquet as a span: the agreed columns in the agreed types, and the rows whose values may not be there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ct.sources.columns import ColumnType, check_names
from ct.sources.quarantine import BadRow
from ct.sources.suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ct.sources.columns import Column
    from ct.sources.quarantine import BadRows
    from ct.sources.span_file import SpanFile

ROWS_A_BATCH = 65_536
READ_BYTES = 1 << 20
NOT_PARQUET = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


def read_parquet(span: SpanFile, columns: Sequence[Column], bad: BadRows) -> Iterator[pa.RecordBatch]:
    """The good rows of a Parquet file; the others go to `bad`, with their row numbers.

    Raises:
        SpanRefusedError: the file is cut or damaged, or a column is missing, unknown or of another type.
        OSError: the file cannot be read.
    """
    before = 0
    with pa.OSFile(str(span.path)) as file:
        for raw in _batches(span, file, columns):
            typed = [_typed(span, raw.column(column.name), column) for column in columns]
            batch = pa.RecordBatch.from_arrays(typed, [column.name for column in columns])
            yield good_rows(batch, suspects(batch, columns), bad, before=before, unit="row")
            before += batch.num_rows


def good_rows(
    batch: pa.RecordBatch, wrong: Mapping[int, tuple[str, str]], bad: BadRows, *, before: int, unit: str
) -> pa.RecordBatch:
    """The batch without its bad rows, which go to `bad`.

    Args:
        batch: in the agreed types.
        wrong: of each bad row, in their order, its column and the reason.
        bad: gets them.
        before: rows of the file before this batch.
        unit: what the format calls a row.
    """
    if not wrong:
        return batch
    for row, (column_name, reason) in wrong.items():
        bad.add(BadRow(before + row + 1, column_name, reason, raw=_raw(batch, row), unit=unit))
    good = np.ones(batch.num_rows, dtype=bool)
    good[list(wrong)] = False
    return batch.filter(pa.array(good))


def _batches(span: SpanFile, file: pa.NativeFile, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    """The agreed columns as they are in the file."""
    try:
        # Pages as they are needed; by default all of a row group's are read beforehand.
        with pq.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False) as parquet:
            check_names(span, parquet.schema_arrow.names, columns)
            for column in columns:
                _check_type(span, parquet.schema_arrow.field(column.name).type, column)
            names = [column.name for column in columns]
            yield from parquet.iter_batches(ROWS_A_BATCH, columns=names, use_threads=False)
    except (*NOT_PARQUET, OSError) as error:
        raise span.refused(f"it is not a whole Parquet file ({_first_line(error)})") from error


def _check_type(span: SpanFile, found: pa.DataType, column: Column) -> None:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if not _ACCEPTED[column.type](found) and not pa.types.is_null(found):
        raise span.refused(f'column "{column.name}" is {found}, {column.type.value} was agreed')


def _typed(span: SpanFile, values: pa.Array, column: Column) -> pa.Array:
    """The values in the agreed type, where no value changes its meaning."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    found = values.type
    agreed = column.type
    if agreed is ColumnType.STRING and pa.types.is_timestamp(found):
        return _iso8601(values)
    try:
        # Rounding a double to 32 bits is agreed to, cutting 1.5 to 1 is not; bad UTF-8 is told row by row.
        lossy = {"allow_float_truncate": agreed is ColumnType.FLOAT, "allow_invalid_utf8": True}
        return values.cast(options=pc.CastOptions(agreed.arrow, **lossy))
    except NOT_PARQUET as error:
        reason = f'column "{column.name}" is {found}, {agreed.value} was agreed ({_first_line(error)})'
        raise span.refused(reason) from error


def _iso8601(times: pa.Array) -> pa.Array:
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


def _raw(batch: pa.RecordBatch, row: int) -> str:
    """The row's values as JSON, also where text is not UTF-8."""
    return json.dumps({name: _shown(batch.column(name), row) for name in batch.schema.names})


def _shown(values: pa.Array, row: int) -> Any:
    if pa.types.is_string(values.type):
        text: bytes | None = values.slice(row, 1).cast(pa.binary())[0].as_py()
        return None if text is None else text.decode("utf-8", "backslashreplace")
    return values[row].as_py()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
