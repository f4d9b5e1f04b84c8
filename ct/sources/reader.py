"""Bytes of a span to an Arrow table: strict about what was agreed, exact about what was not.

The fast way reads with Arrow's own parser. Only when that finds anything wrong does the careful way (ct.sources.careful)
go through a CSV row by row, to say which line and column, and to keep the good rows where the pipeline allows it.
"""

from __future__ import annotations

import mmap
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ct.errors import SpanRefusedError
from ct.sources.careful import read_header, read_rows
from ct.sources.quarantine import BadRow, keep_bad_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ColumnType(str, Enum):
    """The types that a TFX schema knows."""

    STRING = "string"
    INT = "int64"
    FLOAT = "float32"

    @property
    def arrow(self) -> pa.DataType:
        return {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}[self.value]


@dataclass(frozen=True)
class Column:
    """A column that a span must have."""

    name: str
    type: ColumnType
    required: bool
    """True when every row must have a value."""


@dataclass(frozen=True)
class SpanTable:
    """A span's good rows, with the columns in the agreed order."""

    table: pa.Table
    quarantined: int
    """Rows that were left out; they stand in the quarantine file with line and reason."""


def read_span(
    path: Path, format: str, columns: Sequence[Column], *, max_bad_rows: int, quarantine_to: Path  # noqa: A002
) -> SpanTable:
    """Read a span that must have exactly these columns, in any order.

    Args:
        path: the file.
        format: `csv` (RFC 4180, UTF-8 with or without BOM, an empty field is a missing value) or `parquet`.
        columns: what the pipeline's schema asks for.
        max_bad_rows: rows that may be left out; one more refuses the span.
        quarantine_to: folder for `<span>.jsonl`, the rows that were left out.

    Raises:
        SpanRefusedError: the file cannot be read, its header is not as agreed, no row is good, or too many are bad.
    """
    try:
        table, bad = _read_parquet(path, columns) if format == "parquet" else _read_csv(path, columns)
    except OSError as error:
        raise refusal(path, f"it cannot be read: {error}") from error
    kept_in = keep_bad_rows(bad, quarantine_to / f"{path.stem}.jsonl")
    if len(bad) > max_bad_rows:
        more = f" and {len(bad) - 1} more bad rows" if len(bad) > 1 else ""
        raise refusal(path, f"{bad[0].text}{more}; {max_bad_rows} are allowed. They are in {kept_in}")
    if table.num_rows == 0:
        raise refusal(path, "it has no rows")
    return SpanTable(table, len(bad))


def refusal(path: Path, reason: str) -> SpanRefusedError:
    """The error for a span that cannot be used."""
    return SpanRefusedError(
        f'Span "{path.stem}" is refused: {reason}. Nothing was trained on it. '
        f"Land a corrected {path.name}; other spans are not affected.",
        span=path.stem,
        path=str(path),
        reason=reason,
    )


def _read_csv(path: Path, columns: Sequence[Column]) -> tuple[pa.Table, list[BadRow]]:
    if path.stat().st_size == 0:
        raise refusal(path, "the file is empty")
    header = read_header(path)
    _check_names(path, header, columns)
    try:
        table = pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types={column.name: column.type.arrow for column in columns},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                include_columns=[column.name for column in columns],
            ),
        )
    except pa.ArrowInvalid:
        table = None
    if table is not None and not _has_nul(path) and not _suspects(table, columns):
        return table, []
    rows, bad = read_rows(path, header, columns, refusal)
    return pa.table({column.name: pa.array(rows[column.name], column.type.arrow) for column in columns}), bad


def _read_parquet(path: Path, columns: Sequence[Column]) -> tuple[pa.Table, list[BadRow]]:
    if path.stat().st_size == 0:
        raise refusal(path, "the file is empty")
    try:
        file = pq.ParquetFile(path)
        _check_names(path, file.schema_arrow.names, columns)
        table = file.read(columns=[column.name for column in columns])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise refusal(path, f"it is not a whole Parquet file ({str(error).splitlines()[0]})") from error
    for column in columns:
        table = _cast(path, table, column)
    suspects = _suspects(table, columns)
    if not suspects:
        return table, []
    good = pc.invert(pc.is_in(pa.array(range(table.num_rows)), value_set=pa.array(sorted(suspects))))
    bad = [
        BadRow(row + 1, *suspects[row], raw=str(table.slice(row, 1).to_pylist()[0]), unit="row") for row in sorted(suspects)
    ]
    return table.filter(good), bad


def _check_names(path: Path, names: Sequence[str], columns: Sequence[Column]) -> None:
    """Exactly the agreed columns, each once."""
    if any(not name.strip() for name in names):
        raise refusal(path, f"column {[bool(name.strip()) for name in names].index(False) + 1} of its header has no name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise refusal(path, f"its header names {_quoted(twice)} more than once")
    agreed = [column.name for column in columns]
    missing = [name for name in agreed if name not in names]
    extra = [name for name in names if name not in agreed]
    if missing or extra:
        parts = [f"its header lacks {_quoted(missing)}"] * bool(missing) + [f"has unknown {_quoted(extra)}"] * bool(extra)
        raise refusal(path, f"{' and '.join(parts)}; schema.pbtxt says which columns a span has")


def _cast(path: Path, table: pa.Table, column: Column) -> pa.Table:
    """The column in the agreed type, where no value changes its meaning."""
    found = table[column.name]
    if column.type is not ColumnType.STRING and pa.types.is_string(found.type):
        raise refusal(path, f'column "{column.name}" holds text, {column.type.value} was agreed')
    try:
        cast = found.cast(column.type.arrow, safe=column.type is not ColumnType.FLOAT)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = f'column "{column.name}" is {found.type}, {column.type.value} was agreed ({str(error).splitlines()[0]})'
        raise refusal(path, reason) from error
    return table.set_column(table.column_names.index(column.name), column.name, cast)


def _suspects(table: pa.Table, columns: Sequence[Column]) -> dict[int, tuple[str, str]]:
    """Row index -> (column, reason) of rows whose values parse but may not be there: missing ones, NaN, infinities."""
    found: dict[int, tuple[str, str]] = {}
    if table.num_rows == 0:
        return found  # Arrow 25's kernels crash the process on a column without chunks
    for column in columns:
        values = table[column.name]
        if column.required and values.null_count:
            for row in pc.indices_nonzero(pc.is_null(values)).to_pylist():
                found.setdefault(row, (column.name, "has no value, and the schema asks for one"))
        if column.type is ColumnType.FLOAT:
            odd = pc.fill_null(pc.invert(pc.is_finite(values)), fill_value=False)
            for row in pc.indices_nonzero(odd).to_pylist():
                found.setdefault(row, (column.name, "is not a finite number"))
    return found


def _has_nul(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(b"\0") >= 0


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
