"""Bytes of a span to an Arrow table: strict about what was agreed, exact about what was not.

Each format has a fast way, Arrow's own parser, and says row by row what is wrong only where something is
(ct.sources.csv_span, ct.sources.parquet_span). Here stands what both have in common: how many bad rows a span may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.sources.columns import Column, ColumnType, refusal
from ct.sources.csv_span import read_csv
from ct.sources.parquet_span import read_parquet
from ct.sources.quarantine import BadRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

__all__ = ["Column", "ColumnType", "SpanTable", "read_span", "refusal"]


@dataclass(frozen=True)
class SpanTable:
    """A span's good rows, with the columns in the agreed order and types."""

    table: pa.Table
    quarantined: int
    """Rows that were left out; they stand in the quarantine file with line and reason."""

    @property
    def rows(self) -> int:
        """The good rows."""
        return int(self.table.num_rows)


def read_span(
    path: Path,
    format: str,  # noqa: A002  the word that pipeline.yaml, the ledger and the contracts use
    columns: Sequence[Column],
    *,
    max_bad_rows: int,
    quarantine_to: Path,
) -> SpanTable:
    """Read a span that must have exactly these columns, in any order.

    Memory holds the table and little more, also for a file full of bad rows. Reading twice is safe and gives the same.

    Args:
        path: the file.
        format: `csv` (RFC 4180, UTF-8 with or without BOM, an empty field is a missing value, the last line ends with a
            line end) or `parquet`.
        columns: what the pipeline's schema asks for.
        max_bad_rows: rows that may be left out; one more refuses the span.
        quarantine_to: folder for `<span>.jsonl`, the rows that were left out: line (of Parquet: row), column, reason, raw.

    Raises:
        SpanRefusedError: the file cannot be read, its header is not as agreed, no row is good, or too many are bad.
    """
    bad = BadRows.allowing(max_bad_rows)
    kept_in = quarantine_to / f"{path.stem}.jsonl"
    try:
        if path.stat().st_size == 0:
            raise refusal(path, "the file is empty")
        table = read_parquet(path, columns, bad) if format == "parquet" else read_csv(path, columns, bad)
    except OSError as error:
        raise refusal(path, f"it cannot be read: {error}") from error
    finally:
        bad.write(kept_in)
    if bad.count and (bad.count > max_bad_rows or table.num_rows == 0):
        raise refusal(path, _too_many(bad, table.num_rows, max_bad_rows, kept_in))
    if table.num_rows == 0:
        raise refusal(path, "it has a header and no rows" if format == "csv" else "it has no rows")
    return SpanTable(table, bad.count)


def _too_many(bad: BadRows, good: int, allowed: int, kept_in: Path) -> str:
    """The reason, beginning with the first bad row, so that it can be found."""
    first = bad.kept[0].text
    others = f" and {bad.count - 1:,} more bad {'row' if bad.count == 2 else 'rows'}" if bad.count > 1 else ""  # noqa: PLR2004
    every = "" if good else ", so no row is good"
    return f"{first}{others}{every}; {allowed:,} allowed (source.max_bad_rows). See {kept_in}"
