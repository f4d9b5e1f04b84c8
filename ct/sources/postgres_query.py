"""The SQL that a PostgreSQL source asks with. Pure text: no value from a table ever becomes part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ct.sources.buckets import bucket_end, bucket_name, bucket_start, buckets_before

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from ct.source_config import TimeSpan

NAME_FORMATS: dict[TimeSpan, str] = {
    "hour": 'YYYY-MM-DD"T"HH24',
    "day": "YYYY-MM-DD",
    "week": 'IYYY-"W"IW',
    "month": "YYYY-MM",
}
"""PostgreSQL's to_char for ct.sources.buckets.bucket_name."""
NUMBER_DIGITS = 19
"""Of the largest bigint, so that names sort as numbers do."""

TIMES = {"timestamptz", "timestamp", "date"}
NUMBERS = {"int2", "int4", "int8"}
AS_THEY_ARE = {
    *NUMBERS,
    "float4",
    "float8",
    "bool",
    "text",
    "varchar",
    "bpchar",
    "name",
    "timestamptz",
    "timestamp",
    "bytea",
}
"""Types that the reader takes in Arrow's own form; numeric becomes a number, and all others text."""
COLLATED = {"text", "varchar", "bpchar", "name"}
INT64_DIGITS = 18
FIRST_TIME, LAST_TIME = "0001-01-08", "9999-11-30"
"""What Python's datetime and a bucket's end can hold; `infinity` lies outside."""

Change = Literal["xmin", "hash"]


@dataclass(frozen=True)
class ColumnOf:
    """A column of the table or query."""

    name: str
    type: str
    """PostgreSQL's name of the type, such as `int8` or `timestamptz`."""
    typmod: int = -1

    @classmethod
    def of(cls, field: pa.Field) -> ColumnOf:
        """From the field that ADBC gives."""
        facts: Mapping[bytes, bytes] = field.metadata or {}
        kind = facts.get(b"POSTGRESQL:type", b"").decode()
        return cls(field.name, kind, int(facts.get(b"POSTGRESQL:typmod", b"-1")))

    @property
    def selected(self) -> str:
        """The expression whose values go into the span."""
        name = quoted(self.name)
        if self.type in ("timestamptz", "timestamp"):  # `infinity` is no time that anything else knows
            return f"CASE WHEN isfinite({name}) THEN {name} END AS {name}"
        if self.type in AS_THEY_ARE:
            return name
        if self.type == "numeric":
            return f"{name}::{'int8' if self._is_whole else 'float8'} AS {name}"
        return f"{name}::text AS {name}"

    @property
    def ordered(self) -> str:
        """The expression that orders rows which have the same watermark, also for types without an order such as json."""
        name = f"span_rows.{quoted(self.name)}"
        if self.type in COLLATED or self.type not in AS_THEY_ARE:
            return f'{name}::text COLLATE "C"'
        return name

    @property
    def _is_whole(self) -> bool:
        """numeric(p, 0) that fits into 64 bits; PostgreSQL packs precision and scale into the typmod."""
        precision, scale = divmod(self.typmod - 4, 1 << 16)
        return self.typmod >= 0 and scale == 0 and precision <= INT64_DIGITS


@dataclass(frozen=True)
class BucketQuery:
    """Buckets of a relation by its watermark.

    Args:
        relation: a quoted table, or a query in parentheses.
        watermark: the column.
        span: what a bucket is.
        change: what tells an UPDATE inside a bucket: the sum of xmin where rows have one (a later transaction has a higher
            one), else the sum of the rows' hashes.
    """

    relation: str
    watermark: ColumnOf
    span: TimeSpan | int
    change: Change

    def buckets(self, first: str | None) -> str:
        """Name (null for rows in no bucket), rows, newest watermark and change of each bucket, from the bucket `first` on."""
        mark = quoted(self.watermark.name)
        bucket = self._bucket
        kept = "true" if first is None else f"({mark} >= {self._literal(first)} OR {mark} IS NULL)"
        return self._select(f"{self._named(bucket)}, {self._facts}", f"{kept} GROUP BY {bucket}")

    def facts(self, name: str) -> str:
        """Rows, newest watermark and change of one bucket."""
        return self._select(self._facts, self._within(name))

    def rows(self, name: str, columns: list[ColumnOf]) -> str:
        """The rows of one bucket by watermark, then by all other columns, so that the same rows come in the same order."""
        others = [column.ordered for column in columns if column.name != self.watermark.name]
        order = ", ".join([f"span_rows.{quoted(self.watermark.name)}", *others])
        selected = ", ".join(column.selected for column in columns)
        return self._select(selected, f"{self._within(name)} ORDER BY {order}")

    def first_revisited(self, since: str, revisit: int) -> str | None:
        """The name of the bucket `revisit` buckets before `since`, or None when that is no bucket's name."""
        if isinstance(self.span, int):
            number = int(since) if since.isdecimal() and len(since) == NUMBER_DIGITS else None
            return None if number is None else number_name(max(0, number - revisit * self.span))
        start = bucket_start(since, self.span)
        return None if start is None else bucket_name(buckets_before(start, self.span, revisit), self.span)

    def _select(self, what: str, where: str) -> str:
        return f"SELECT {what} FROM {self.relation} AS span_rows WHERE {where}"  # noqa: S608  names are quoted, the rest is ours

    @property
    def _bucket(self) -> str:
        mark = quoted(self.watermark.name)
        if isinstance(self.span, int):
            return f"CASE WHEN {mark} >= 0 THEN {mark} / {self.span} END"
        utc = f"{mark} AT TIME ZONE 'UTC'" if self.watermark.type == "timestamptz" else f"{mark}::timestamp"
        return f"CASE WHEN {mark} BETWEEN '{FIRST_TIME}' AND '{LAST_TIME}' THEN date_trunc('{self.span}', {utc}) END"

    def _named(self, bucket: str) -> str:
        if isinstance(self.span, int):
            return f"lpad(({bucket} * {self.span}::numeric)::text, {NUMBER_DIGITS}, '0')"
        return f"to_char({bucket}, '{NAME_FORMATS[self.span]}')"

    @property
    def _facts(self) -> str:
        change = "xmin::text::bigint" if self.change == "xmin" else "hashtextextended(span_rows::text, 0)"
        return f"count(*), max({quoted(self.watermark.name)})::text, sum({change})::text"

    def _within(self, name: str) -> str:
        mark = quoted(self.watermark.name)
        return f"{mark} >= {self._literal(name)} AND {mark} < {self._literal(name, end=True)}"

    def _literal(self, name: str, *, end: bool = False) -> str:
        """Where the bucket begins or ends, in the watermark's type."""
        if isinstance(self.span, int):
            return str(int(name) + (self.span if end else 0))
        start = bucket_start(name, self.span)
        if start is None:
            raise ValueError(f"{name} is no {self.span}")
        time = bucket_end(start, self.span) if end else start
        text = time.replace(tzinfo=None).isoformat(sep=" ")
        return f"{self.watermark.type} '{text}+00'" if self.watermark.type == "timestamptz" else f"timestamp '{text}'"


def quoted(name: str) -> str:
    """An identifier exactly as it is, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def number_name(number: int) -> str:
    """A bucket of numbers, by its first one."""
    return f"{number:0{NUMBER_DIGITS}d}"
