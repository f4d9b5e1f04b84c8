"""A run's span as record batches, whatever its format: those of ct.sources, and TFRecord, which needs the training plane."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ct.sources.reader import FORMATS, SpanFile, read_span
from ct.training.tfrecord_span import read_tfrecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from ct.contracts import Span
    from ct.sources.reader import Column, SpanStream

TRAINING_FORMATS = MappingProxyType({**FORMATS, "tfrecord": read_tfrecord})


def file_of(span: Span) -> SpanFile:
    """The span's local file."""
    return SpanFile(span.name, Path(span.uri))


def open_span(
    span: Span, columns: Sequence[Column], *, max_bad_rows: int, quarantine_to: Path
) -> AbstractContextManager[SpanStream]:
    """`ct.sources.reader.read_span` of a span in any format that the training plane reads."""
    return read_span(
        file_of(span),
        span.format,
        columns,
        max_bad_rows=max_bad_rows,
        quarantine_to=quarantine_to,
        formats=TRAINING_FORMATS,
    )
