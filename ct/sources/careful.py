"""A CSV row by row: slower than Arrow, but it knows the line and the column of everything that is wrong."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ct.sources.columns import Column, ColumnType, printable, shown
from ct.sources.csv_lines import NUL_STAND_IN, Lines, records
from ct.sources.quarantine import BadRow
from ct.sources.suspects import HAS_NUL, NO_VALUE, NOT_FINITE, NOT_UTF8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.sources.quarantine import BadRows
    from ct.sources.span_file import SpanFile

ROWS_A_BATCH = 8192
INT64 = range(-(1 << 63), 1 << 63)
FLOAT32_LIMIT = 3.4028235677973366e38
"""Half a step past the largest 32-bit number: from here on rounding gives infinity (IEEE 754)."""

NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
LONGEST_INT64 = 20
HAS_BYTE_ORDER_MARK = "begins with a byte order mark; was a second file appended to the first?"
NOT_FINITE_WORDS = ("nan", "inf", "infinity")


class _BadRowError(Exception):
    """A row that cannot be used, with the column where one is to blame."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def read_rows(
    lines: Lines, span: SpanFile, header: Sequence[str], columns: Sequence[Column], bad: BadRows, *, to: int
) -> Iterator[pa.RecordBatch]:
    """The good rows from where `lines` stands to the first end of a record at or behind byte `to`; the others go to `bad`.

    A batch may have no row: it is there so that whoever reads on sees in time how many are bad.

    Raises:
        SpanRefusedError: a quote is opened and never closed, or stands where none may, so that rows cannot be told apart.
    """
    schema = pa.schema([(column.name, column.type.arrow) for column in columns])
    positions = [(column, header.index(column.name)) for column in columns]
    rows: list[list[Any]] = []
    for number, (line, fields) in enumerate(records(lines, span), start=1):
        try:
            rows.append(_values(fields, len(header), positions, is_cut=not lines.is_ended))
        except _BadRowError as error:
            raw = printable(",".join(fields).replace(NUL_STAND_IN, "\0"))
            bad.add(BadRow(line, error.column, error.reason, raw=raw))
        if number % ROWS_A_BATCH == 0:
            yield _batch(rows, schema)
            rows = []
        if lines.at >= to:
            break
    yield _batch(rows, schema)


def not_text(text: str) -> str | None:
    """Why the text is none, or None."""
    if text.isascii():
        return None
    if NUL_STAND_IN in text:
        return HAS_NUL
    if text.startswith("\ufeff"):
        return HAS_BYTE_ORDER_MARK
    return NOT_UTF8 if any("\udc80" <= character <= "\udcff" for character in text) else None


def _values(
    fields: Sequence[str], width: int, positions: Sequence[tuple[Column, int]], *, is_cut: bool
) -> list[str | int | float | None]:
    """A row's values in the columns' order."""
    if is_cut:
        raise _BadRowError(None, "the file ends within this line, so its last field may be cut")
    if not fields:
        raise _BadRowError(None, "the line is empty")
    if len(fields) != width:
        found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise _BadRowError(None, f"it has {found}, the header has {width}")
    return [_value(column, fields[position]) for column, position in positions]


def _value(column: Column, text: str) -> str | int | float | None:
    """What a field's text says; None for an empty field."""
    problem = not_text(text)
    if problem or (column.required and not text):
        raise _BadRowError(column.name, problem or NO_VALUE)
    if not text:
        return None
    if column.type is ColumnType.STRING:
        return text
    value = _whole_number(column, text) if column.type is ColumnType.INT else _number(column, text)
    outside = column.out_of_range(value)
    if outside:
        raise _BadRowError(column.name, outside)
    return value


def _whole_number(column: Column, text: str) -> int:
    if not WHOLE_NUMBER.fullmatch(text):
        raise _BadRowError(column.name, f"{shown(text)} is not a whole number")
    digits = text.strip().lstrip("+-").lstrip("0")
    value = int(text) if len(digits) < LONGEST_INT64 else INT64.stop  # int() itself refuses thousands of digits
    if value not in INT64:
        raise _BadRowError(column.name, f"{shown(text)} does not fit in 64 bits")
    return value


def _number(column: Column, text: str) -> float:
    """The number, rounded to 32 bits."""
    if not NUMBER.fullmatch(text) and text.strip().lstrip("+-").lower() not in NOT_FINITE_WORDS:
        raise _BadRowError(column.name, f"{shown(text)} is not a number")
    value = float(text)
    if not math.isfinite(value) or abs(value) >= FLOAT32_LIMIT:
        raise _BadRowError(column.name, f"{shown(text)} {NOT_FINITE}")
    return float(np.float32(value))


def _batch(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
