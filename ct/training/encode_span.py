"""One span to its encoded parts: read strictly, checked against the hash it landed with, encoded, in bounded memory."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ct.errors import SpanRefusedError
from ct.sources.arrival import sha256_of
from ct.training.encode import Part, PartWriter, encoders
from ct.training.span_reader import file_of, open_span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from ct.contracts import Span
    from ct.sources.reader import Column, SpanFile, SpanStream

TIME_FORMAT, TIME_CHARACTERS = "%Y-%m-%dT%H:%M:%S", 19


@dataclass(frozen=True)
class HoldOut:
    """Which rows of an only span are judged on: those of its last days."""

    time_column: str
    days: int

    @property
    def key(self) -> str:
        """Names the split in a folder's name, whatever characters the column's name has."""
        return f"{self.days}-{hashlib.sha256(self.time_column.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class SpanEncoder:
    """Encodes spans of one pipeline."""

    columns: Sequence[Column]
    max_bad_rows: int
    quarantine_to: Path
    key: str
    """Names unfinished files; another one for each run."""

    def whole(self, span: Span, folder: Path) -> Part:
        """Encode all rows of a span into `folder`.

        Raises:
            SpanRefusedError: it cannot be read as the schema asks, or is not what landed any more.
        """
        with ExitStack() as stack:
            pool = stack.enter_context(encoders())
            part = self._writer(stack, folder, pool)
            with self._same_bytes(span, pool), self._opened(span) as stream:
                for batch in stream:
                    part.write(batch)
            return part.finish(stream.quarantined)

    def held_out(self, span: Span, train: Path, judge: Path, hold_out: HoldOut) -> tuple[Part, Part]:
        """Encode the rows before the last days of a span into `train`, the others into `judge`; it is read twice.

        Rows that are left out count as quarantined in the first.

        Raises:
            SpanRefusedError: as `whole`; or its time column is none, or its rows span too few days.
        """
        file = file_of(span)
        with ExitStack() as stack:
            pool = stack.enter_context(encoders())
            parts = self._writer(stack, train, pool), self._writer(stack, judge, pool)
            with self._same_bytes(span, pool):
                begin = self._begin(span, hold_out)
                with self._opened(span) as stream:
                    for batch in stream:
                        times = _times(file, batch, hold_out)
                        judged = pc.fill_null(pc.greater(times, begin), fill_value=False)  # no time: to train on
                        parts[0].write(batch.filter(pc.invert(judged)))
                        parts[1].write(batch.filter(judged))
            if not all(part.rows for part in parts):
                raise file.refused(f"its rows span less than {hold_out.days} days, so none can be held out")
            return parts[0].finish(stream.quarantined), parts[1].finish(0)

    def _begin(self, span: Span, hold_out: HoldOut) -> pa.Scalar:
        """The moment behind which rows are judged on."""
        file = file_of(span)
        with self._opened(span) as stream:
            found = [pc.max(_times(file, batch, hold_out)).as_py() for batch in stream]
        newest = max((time for time in found if time is not None), default=None)
        if newest is None:
            raise file.refused(f'column "{hold_out.time_column}" has no value in any row')
        return pa.scalar(newest - timedelta(days=hold_out.days), pa.timestamp("s"))

    def _writer(self, stack: ExitStack, folder: Path, pool: Executor) -> PartWriter:
        writer = PartWriter(folder, self.key, pool)
        stack.callback(writer.discard)
        return writer

    @contextmanager
    def _opened(self, span: Span) -> Iterator[SpanStream]:
        with open_span(span, self.columns, max_bad_rows=self.max_bad_rows, quarantine_to=self.quarantine_to) as stream:
            yield stream

    @contextmanager
    def _same_bytes(self, span: Span, pool: Executor) -> Iterator[None]:
        """Hash the file while the block reads it. The run was asked to train on the bytes that landed.

        Others under the same name are a revision, for another run; that they are is the better answer also where they
        cannot be read.

        Raises:
            SpanRefusedError: they are others now, or were changed within the block.
        """
        file = file_of(span)
        before = _stamp(file)
        found = pool.submit(sha256_of, file.path)
        try:
            yield
        except SpanRefusedError:
            _require_landed(file, found.result(), span)
            raise
        _require_landed(file, found.result() if _stamp(file) == before else None, span)


def _times(file: SpanFile, batch: pa.RecordBatch, hold_out: HoldOut) -> pa.Array:
    texts = pc.utf8_slice_codeunits(batch.column(hold_out.time_column), 0, TIME_CHARACTERS)
    try:
        return pc.strptime(texts, TIME_FORMAT, "s")
    except pa.ArrowInvalid as error:
        raise file.refused(f'column "{hold_out.time_column}" is not ISO 8601 time ({error})') from error


def _stamp(file: SpanFile) -> tuple[int, int, int]:
    try:
        status = file.path.stat()
    except OSError as error:
        raise file.refused(f"it cannot be read: {error.strerror or error}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _require_landed(file: SpanFile, found: str | None, span: Span) -> None:
    if found != span.sha256:
        raise file.refused("its bytes changed after they landed; what is there now counts as a new revision")
