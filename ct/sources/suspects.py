"""Values that have the right type and still may not be there: missing ones, NaN and infinities, NUL, text not in UTF-8."""

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


def suspects(table: pa.Table, columns: Sequence[Column]) -> dict[int, tuple[str, str]]:
    """Row index -> (column, reason), the first column that is wrong in each bad row; in the order of the rows."""
    found: dict[int, tuple[str, str]] = {}
    if table.num_rows == 0:
        return found  # Arrow 25's kernels crash the process on a column without chunks
    for column in columns:
        for mask, reason in _checks(table[column.name], column):
            for row in pc.indices_nonzero(mask).to_pylist():
                found.setdefault(row, (column.name, reason))
    return dict(sorted(found.items()))


def _checks(values: pa.ChunkedArray, column: Column) -> Iterator[tuple[pa.ChunkedArray | pa.Array, str]]:
    """Masks of rows, true where the reason applies."""
    if column.required and values.null_count:
        yield pc.is_null(values), NO_VALUE
    if column.type is ColumnType.FLOAT:
        yield pc.fill_null(pc.invert(pc.is_finite(values)), fill_value=False), NOT_FINITE
    if column.type is ColumnType.STRING:
        if not _is_utf8(values):
            yield pa.array([not _decodes(value) for value in values.cast(pa.binary()).to_pylist()]), NOT_UTF8
        yield pc.fill_null(pc.match_substring(values.cast(pa.binary()), "\0"), fill_value=False), HAS_NUL


def _is_utf8(values: pa.ChunkedArray) -> bool:
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
