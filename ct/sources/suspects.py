"""Values of the right type that still may not be there: missing, not finite, out of range, with a NUL, not in UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ct.sources.columns import ColumnType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.sources.columns import Column

NO_VALUE = "has no value, and the schema asks for one"
NOT_FINITE = "is not a finite number of 32 bits"
HAS_NUL = "holds a NUL byte"
NOT_UTF8 = "is not UTF-8"


def suspects(batch: pa.RecordBatch, columns: Sequence[Column]) -> dict[int, tuple[str, str]]:
    """Row index -> (column, reason), the first column that is wrong in each bad row; in the order of the rows."""
    found: dict[int, tuple[str, str]] = {}
    for column in columns:
        values = batch.column(column.name)
        for mask, reason in _checks(values, column):
            for row in pc.indices_nonzero(mask).to_pylist():
                found.setdefault(row, (column.name, reason))
        for row in _out_of_range(values, column):
            found.setdefault(row, (column.name, str(column.out_of_range(values[row].as_py()))))
    return dict(sorted(found.items()))


def _checks(values: pa.Array, column: Column) -> Iterator[tuple[pa.Array, str]]:
    """Masks of rows, true where the reason applies."""
    if column.required and values.null_count:
        yield pc.is_null(values), NO_VALUE
    if column.type is ColumnType.FLOAT:
        yield pc.fill_null(pc.invert(pc.is_finite(values)), fill_value=False), NOT_FINITE
    if column.type is ColumnType.STRING:
        if not _is_utf8(values):
            yield pa.array([not _decodes(value) for value in values.cast(pa.binary()).to_pylist()]), NOT_UTF8
        yield pc.fill_null(pc.match_substring(values.cast(pa.binary()), "\0"), fill_value=False), HAS_NUL


def _out_of_range(values: pa.Array, column: Column) -> list[int]:
    """Rows whose value is below the column's minimum or above its maximum."""
    rows: list[int] = []
    if column.minimum is not None:
        rows += pc.indices_nonzero(pc.less(values, pa.scalar(column.minimum, values.type))).to_pylist()
    if column.maximum is not None:
        rows += pc.indices_nonzero(pc.greater(values, pa.scalar(column.maximum, values.type))).to_pylist()
    return rows


def _is_utf8(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _decodes(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
