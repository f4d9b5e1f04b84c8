"""Bytes of a span to Arrow record batches: strict about what was agreed, exact about what was not.

Each format has a reader of its own (ct.sources.csv_span, ct.sources.parquet_span) that gives the good rows and says row by
row what is wrong with the others. Here stands what they have in common: how many bad rows a span may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa

from ct.sources.columns import Column, ColumnType
from ct.sources.csv_span import read_csv
from ct.sources.parquet_span import read_parquet
from ct.sources.quarantine import BadRows
from ct.sources.span_file import SpanFile

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FORMATS", "Column", "ColumnType", "Reader", "SpanFile", "SpanStream", "read_span"]

Reader = Callable[[SpanFile, Sequence[Column], BadRows], Iterator[pa.RecordBatch]]
"""Gives the good rows of a file that is not empty, in batches of any size, also none; adds the others to the BadRows."""

FORMATS: Mapping[str, Reader] = MappingProxyType({"csv": read_csv, "parquet": read_parquet})


@dataclass
class SpanStream:
    """The good rows of a span, once, in the order of the file: batches with the columns in the agreed order and types."""

    span: SpanFile
    max_bad_rows: int
    quarantine: Path
    _batches: Iterator[pa.RecordBatch]
    _bad: BadRows
    rows: int = field(default=0, init=False)
    """Good rows so far; all of them when the iteration has ended."""

    @property
    def quarantined(self) -> int:
        """Rows that were left out so far; they stand in the quarantine file with line and reason."""
        return self._bad.count

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches.

        Raises:
            SpanRefusedError: the file cannot be read, its header is not as agreed, too many rows are bad, or none is good.
        """
        try:
            if self.span.path.stat().st_size == 0:
                raise self.span.refused("the file is empty")
            for batch in self._batches:
                self._require_few_bad(f" in the first {self.rows + batch.num_rows + self.quarantined:,} rows")
                self.rows += batch.num_rows
                if batch.num_rows:
                    yield batch
        except OSError as error:
            raise self.span.refused(f"it cannot be read: {error.strerror or error}") from error
        self._require_few_bad("" if self.rows else ", so no row is good")
        if self.rows == 0:
            raise self.span.refused(self._none_good())

    def _require_few_bad(self, seen: str) -> None:
        if self.quarantined > self.max_bad_rows:
            raise self.span.refused(self._bad_rows(seen))

    def _none_good(self) -> str:
        return self._bad_rows(", so no row is good") if self.quarantined else "it has no rows"

    def _bad_rows(self, seen: str) -> str:
        """The reason, beginning with the first bad row, so that it can be found."""
        more = self.quarantined - 1
        others = f" and {more:,} more bad {'row' if more == 1 else 'rows'}" if more else ""
        allowed = f"{self.max_bad_rows:,} allowed (source.max_bad_rows)"
        return f"{self._bad.kept[0].text}{others}{seen}; {allowed}. See {self.quarantine}"


@contextmanager
def read_span(
    span: SpanFile,
    format: str,  # noqa: A002  the word that pipeline.yaml, the ledger and the contracts use
    columns: Sequence[Column],
    *,
    max_bad_rows: int,
    quarantine_to: Path,
    formats: Mapping[str, Reader] = FORMATS,
) -> Iterator[SpanStream]:
    """Read a span that must have exactly these columns, in any order.

    Memory holds a few megabytes of it, whatever the file's size. The span is refused as soon as that is certain, which may
    be after millions of good rows: do not use what was read before the iteration has ended. Reading twice is safe and gives
    the same.

    Args:
        span: the file.
        format: `csv` (RFC 4180, UTF-8 with or without BOM, an empty field is a missing value, the last line ends with a
            line end) or `parquet`, or another that `formats` has.
        columns: what the pipeline's schema asks for.
        max_bad_rows: rows that may be left out; one more refuses the span.
        quarantine_to: folder for `<span>.jsonl`, the rows that were left out: line (of Parquet: row), column, reason, raw.
            It is written when the block ends.
        formats: a reader for each format.
    """
    bad = BadRows.allowing(max_bad_rows)
    quarantine = quarantine_to / f"{span.name}.jsonl"
    try:
        yield SpanStream(span, max_bad_rows, quarantine, formats[format](span, columns, bad), bad)
    finally:
        bad.write(quarantine)
