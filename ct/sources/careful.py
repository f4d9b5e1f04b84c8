"""A CSV row by row: slower than Arrow, but it knows the line and the column of everything that is wrong."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import pyarrow as pa

from ct.sources.columns import ColumnType, printable, refusal, shown
from ct.sources.quarantine import BadRow
from ct.sources.suspects import HAS_NUL, NO_VALUE, NOT_FINITE, NOT_UTF8

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ct.sources.columns import Column
    from ct.sources.quarantine import BadRows

ROWS_A_CHUNK = 8192
INT64 = range(-(1 << 63), 1 << 63)
FLOAT32_LIMIT = 3.4028235677973366e38
"""Half a step past the largest 32-bit number: from here on rounding gives infinity (IEEE 754)."""

NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
LONGEST_INT64 = 20
NOT_FINITE_WORDS = ("nan", "inf", "infinity")

NUL_STAND_IN = "\ufdd0"
"""A code point that no text may hold; Python 3.10's csv module refuses NUL outright and would hide the line."""


class _BadRowError(Exception):
    """A row that cannot be used, with the column where one is to blame."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def read_header(path: Path) -> list[str]:
    """The names in the first record; a byte order mark is not part of the first name.

    Raises:
        SpanRefusedError: it is not text, or cannot be split into fields.
    """
    try:
        with _opened(path) as file:
            header = next(csv.reader(_without_nul(file), strict=True), [])
    except csv.Error as error:
        raise refusal(path, f"its header cannot be read ({error})") from error
    names = "".join(header)
    if names.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        raise refusal(path, "its header is not UTF-8 but UTF-16; save it as UTF-8")
    problem = _not_text(names)
    if problem:
        raise refusal(path, f"its header {problem}")
    return header


def count_rows(path: Path, width: int) -> int | None:
    """The rows below the header when quotes are as RFC 4180 says and every row has `width` fields, else None."""
    rows = -1
    with _opened(path) as file:
        try:
            for fields in csv.reader(_without_nul(file), strict=True):
                if len(fields) != width:
                    return None
                rows += 1
        except csv.Error:
            return None
    return rows


def read_rows(path: Path, header: Sequence[str], columns: Sequence[Column], bad: BadRows) -> pa.Table:
    """The good rows; the others go to `bad` with the line they begin on.

    Raises:
        SpanRefusedError: a quote is opened and never closed, or stands where none may, so that rows cannot be told apart.
    """
    schema = pa.schema([(column.name, column.type.arrow) for column in columns])
    positions = [(column, header.index(column.name)) for column in columns]
    chunks: list[pa.RecordBatch] = []
    rows: list[list[Any]] = []
    for line, fields, is_cut in _records(path):
        try:
            rows.append(_values(fields, len(header), positions, is_cut=is_cut))
        except _BadRowError as error:
            raw = printable(",".join(fields).replace(NUL_STAND_IN, "\0"))
            bad.add(BadRow(line, error.column, error.reason, raw=raw))
        if len(rows) == ROWS_A_CHUNK:
            chunks.append(_chunk(rows, schema))
            rows = []
    return pa.Table.from_batches([*chunks, *([_chunk(rows, schema)] if rows else [])], schema)


def _records(path: Path) -> Iterator[tuple[int, list[str], bool]]:
    """Each record below the header: the line it begins on, its fields, and whether the file ends before its line does."""
    lines = _Lines()
    with _opened(path) as file:
        reader = csv.reader(lines.of(file), strict=True)
        next(reader)
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise refusal(path, f"line {line}: {error}; the rows from there on cannot be told apart") from error
            yield line, fields, not lines.last.endswith(("\n", "\r"))


@dataclass
class _Lines:
    """The lines of a file on their way to the csv module, which does not say how the last one ended."""

    last: str = ""

    def of(self, file: TextIO) -> Iterator[str]:
        for line in _without_nul(file):
            self.last = line
            yield line


def _values(
    fields: Sequence[str], width: int, positions: Sequence[tuple[Column, int]], *, is_cut: bool
) -> list[str | int | float | None]:
    """A row's values in the columns' order."""
    if is_cut:
        raise _BadRowError(None, "the file ends within this line, so its last field may be cut")
    if not fields:
        raise _BadRowError(None, "the line is empty")
    if len(fields) != width:
        raise _BadRowError(None, f"it has {len(fields)} fields, the header has {width}")
    return [_value(column, fields[position]) for column, position in positions]


def _value(column: Column, text: str) -> str | int | float | None:
    """What a field's text says; None for an empty field."""
    problem = _not_text(text)
    if problem or (column.required and not text):
        raise _BadRowError(column.name, problem or NO_VALUE)
    if not text:
        return None
    if column.type is ColumnType.STRING:
        return text
    return _whole_number(column, text) if column.type is ColumnType.INT else _number(column, text)


def _whole_number(column: Column, text: str) -> int:
    if not WHOLE_NUMBER.fullmatch(text):
        raise _BadRowError(column.name, f"{shown(text)} is not a whole number")
    digits = text.strip().lstrip("+-").lstrip("0")
    value = int(text) if len(digits) < LONGEST_INT64 else INT64.stop  # int() itself refuses thousands of digits
    if value not in INT64:
        raise _BadRowError(column.name, f"{shown(text)} does not fit in 64 bits")
    return value


def _number(column: Column, text: str) -> float:
    if not NUMBER.fullmatch(text) and text.strip().lstrip("+-").lower() not in NOT_FINITE_WORDS:
        raise _BadRowError(column.name, f"{shown(text)} is not a number")
    value = float(text)
    if not math.isfinite(value) or abs(value) >= FLOAT32_LIMIT:
        raise _BadRowError(column.name, f"{shown(text)} {NOT_FINITE}")
    return value


def _not_text(text: str) -> str | None:
    """Why the text is none, or None."""
    if text.isascii():
        return None
    if NUL_STAND_IN in text:
        return HAS_NUL
    return NOT_UTF8 if any("\udc80" <= character <= "\udcff" for character in text) else None


def _chunk(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _opened(path: Path) -> TextIO:
    """The file as text in which every byte that is not UTF-8 can still be seen."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    return (line.replace("\0", NUL_STAND_IN) for line in lines)
