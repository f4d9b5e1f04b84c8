"""CQL values as Arrow columns, and the time buckets that partition keys name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ct.sources.buckets import NAMES, bucket_name, bucket_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct.source_config import TimeSpan

WIDTHS: tuple[TimeSpan, ...] = ("hour", "day", "week", "month")
"""From the narrowest to the widest."""
DIGITS: dict[int, tuple[TimeSpan, str]] = {
    10: ("hour", "{0:.4}-{0[4]}{0[5]}-{0[6]}{0[7]}T{0[8]}{0[9]}"),
    8: ("day", "{0:.4}-{0[4]}{0[5]}-{0[6]}{0[7]}"),
    6: ("month", "{0:.4}-{0[4]}{0[5]}"),
}
"""Integers such as 20130105, by their number of digits."""
NUMBER_DIGITS = 19


def arrow_type(cql_type: str) -> pa.DataType:
    """The type of a column in the span. What the reader knows no type for becomes text, collections as JSON."""
    return _ARROW.get(cql_type, pa.string())


def arrow_batch(rows: Sequence[Sequence[Any]], schema: pa.Schema, cql_types: Sequence[str]) -> pa.RecordBatch:
    """Rows as the driver gives them (tuples, nulls as None) in the schema's types."""
    columns = zip(*rows, strict=True)
    arrays = [
        pa.array([None if value is None else _converter(cql_type)(value) for value in values], kind)
        for values, kind, cql_type in zip(columns, schema.types, cql_types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def span_of(value: Any, span: TimeSpan | None) -> str | None:
    """The name of the span that a partition with this bucket value belongs to, or None when it names none.

    Args:
        value: of the bucket column, as the driver gives it.
        span: what a span is; None for buckets that are no time, which then are spans themselves.
    """
    if span is None:
        if isinstance(value, int):
            return f"{value:0{NUMBER_DIGITS}d}" if value >= 0 else None
        text = _text(value)
        return text if text and "/" not in text and not text.startswith(".") else None
    found = _time_of(value)
    if found is None or WIDTHS.index(found[1]) > WIDTHS.index(span):
        return None
    return bucket_name(found[0], span)


def _time_of(value: Any) -> tuple[datetime, TimeSpan] | None:
    """Where the bucket begins, and how wide it is at least."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=timezone.utc), "hour"
    text = str(value)
    if isinstance(value, int):
        width, form = DIGITS.get(len(text), (None, ""))
        start = bucket_start(form.format(text), width) if width else None
        return (start, width) if start and width else None
    for width in NAMES:
        start = bucket_start(text, width)
        if start is not None:
            return start, width
    return None


def _converter(cql_type: str) -> Callable[[Any], Any]:
    if cql_type in ("decimal", "varint"):
        return float
    if cql_type == "timestamp":
        return lambda time: time.replace(tzinfo=timezone.utc)
    return _text if cql_type not in _ARROW else _same


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    """Text that is the same for the same value."""
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        return json.dumps(_json(value))
    return value.isoformat() if isinstance(value, date) else str(value)


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, bool | int | float | str | None):
        return value
    return [_json(inner) for inner in value] if isinstance(value, Iterable) else _text(value)


_ARROW: dict[str, pa.DataType] = {
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint", "counter"), pa.int64()),
    "float": pa.float32(),
    **dict.fromkeys(("double", "decimal", "varint"), pa.float64()),
    "boolean": pa.bool_(),
    **dict.fromkeys(("text", "ascii", "varchar"), pa.string()),
    "blob": pa.binary(),
    "timestamp": pa.timestamp("ms", "UTC"),
}
