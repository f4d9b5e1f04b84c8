"""A CSV row by row: slower than Arrow, but it knows the line and the column of everything that is wrong."""

from __future__ import annotations

import csv
import math
import re
from typing import TYPE_CHECKING, Any

from ct.sources.quarantine import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ct.errors import SpanRefusedError
    from ct.sources.reader import Column

INT64 = range(-(1 << 63), 1 << 63)
FLOAT32_MAX = 3.4028234663852886e38
NUL_STAND_IN = "\ufdd0"
"""A code point that no text may hold; Python 3.10's csv module refuses NUL outright and would hide the line."""


class _NotThisTypeError(Exception):
    """A field's text does not say a value of its column's type."""


def read_header(path: Path) -> list[str]:
    """The names in the first line; a byte order mark is not part of the first name."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(csv.reader(_without_nul(file)), [])


def read_rows(
    path: Path, header: Sequence[str], columns: Sequence[Column], refusal: Callable[[Path, str], SpanRefusedError]
) -> tuple[dict[str, list[Any]], list[BadRow]]:
    """The good rows as a list of values a column, and the bad rows.

    Raises:
        SpanRefusedError: a quote is opened and never closed, so that no later row can be told.
    """
    values: dict[str, list[Any]] = {column.name: [] for column in columns}
    bad: list[BadRow] = []
    positions = [(column, header.index(column.name)) for column in columns]
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(_without_nul(file), strict=True)
        next(reader)
        for line, fields in _numbered(reader, path, refusal):
            problem, row = _parse(fields, len(header), positions)
            if problem is not None:
                raw = ",".join(fields).replace(NUL_STAND_IN, "\0").encode("utf-8", "backslashreplace").decode()
                bad.append(BadRow(line, *problem, raw=raw))
                continue
            for (column, _), value in zip(positions, row):  # noqa: B905  strict= would cost in the hot loop
                values[column.name].append(value)
    return values, bad


def _numbered(
    reader: Any, path: Path, refusal: Callable[[Path, str], SpanRefusedError]
) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins on; a quoted field may span lines."""
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise refusal(path, f"line {line}: {error}; the rows after it cannot be told apart") from error


def _parse(
    fields: Sequence[str], width: int, positions: Sequence[tuple[Column, int]]
) -> tuple[tuple[str | None, str] | None, list[Any]]:
    """A row's values in the columns' order, or the column and reason why not."""
    if not fields:
        return (None, "the line is empty"), []
    if len(fields) != width:
        return (None, f"it has {len(fields)} fields, the header has {width}"), []
    row: list[Any] = []
    for column, position in positions:
        try:
            row.append(_value(column, fields[position]))
        except _NotThisTypeError as error:
            return (column.name, str(error)), []
    return None, row


def _value(column: Column, text: str) -> str | int | float | None:
    """What a field's text says; None for an empty field."""
    if NUL_STAND_IN in text:
        raise _NotThisTypeError("holds a NUL byte")
    if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
        raise _NotThisTypeError("is not UTF-8")
    if not text:
        if column.required:
            raise _NotThisTypeError("has no value, and the schema asks for one")
        return None
    kind = column.type.value
    return text if kind == "string" else _integer(text) if kind == "int64" else _number(text)


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise _NotThisTypeError(f"{text!r} is not a whole number")
    value = int(text)
    if value not in INT64:
        raise _NotThisTypeError(f"{text!r} does not fit in 64 bits")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _NotThisTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value) or abs(value) > FLOAT32_MAX:
        raise _NotThisTypeError(f"{text!r} is not a finite number of 32 bits")
    return value


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    return (line.replace("\0", NUL_STAND_IN) for line in lines)
