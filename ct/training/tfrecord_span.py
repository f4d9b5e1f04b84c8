"""TFRecord of tf.Example as a span: one value or none of each agreed feature in every example, in the agreed types."""

from __future__ import annotations

import gzip
import struct
import zlib
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, cast

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from ct.sources.parquet_span import good_rows
from ct.sources.quarantine import BadRow
from ct.sources.suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ct.sources.quarantine import BadRows
    from ct.sources.reader import Column, SpanFile

ROWS_A_BATCH = 8192
GZIP_MAGIC = b"\x1f\x8b"
HEADER, FOOTER = struct.Struct("<QI"), struct.Struct("<I")
"""A record: its length and that one's checksum, its bytes, their checksum. Source: tensorflow/core/lib/io/record_writer.h."""
LONGEST_RECORD_BYTES = 1 << 26
MASK = 0xA282EAD8
UNIT = "record"


def read_tfrecord(span: SpanFile, columns: Sequence[Column], bad: BadRows) -> Iterator[pa.RecordBatch]:
    """The good examples of a TFRecord file, plain or compressed with gzip; the others go to `bad`, with their numbers.

    Raises:
        SpanRefusedError: the file is cut or damaged, or has a feature that was not agreed.
        OSError: the file cannot be read.
    """
    decoder = ExamplesToRecordBatchDecoder()
    with span.path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        serialized = _records(span, cast("BinaryIO", gzip.GzipFile(fileobj=file)) if is_gzip else file)
        before = 0
        while examples := list(islice(serialized, ROWS_A_BATCH)):
            yield from _decoded(decoder, span, examples, columns, bad, before)
            before += len(examples)


def _records(span: SpanFile, file: BinaryIO) -> Iterator[bytes]:
    """Each record's bytes. TensorFlow's own reader takes some cut files for whole ones, so this one looks."""
    number = 0
    try:
        while head := file.read(HEADER.size):
            number += 1
            record = _record(file, head)
            if record is None:
                raise span.refused(f"record {number:,} is cut or damaged; it is not a whole TFRecord file")
            yield record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise span.refused(f"it is not a whole gzip file behind record {number:,} ({error})") from error


def _record(file: BinaryIO, head: bytes) -> bytes | None:
    if len(head) < HEADER.size:
        return None
    length, checksum = HEADER.unpack(head)
    if checksum != _checksum(head[:8]) or length > LONGEST_RECORD_BYTES:
        return None
    body = file.read(length + FOOTER.size)
    record = body[:length]
    if len(body) < length + FOOTER.size or FOOTER.unpack(body[length:])[0] != _checksum(record):
        return None
    return record


def _checksum(content: bytes) -> int:
    """TFRecord's masked CRC-32C."""
    crc: int = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def _decoded(
    decoder: ExamplesToRecordBatchDecoder,
    span: SpanFile,
    examples: Sequence[bytes],
    columns: Sequence[Column],
    bad: BadRows,
    before: int,
) -> Iterator[pa.RecordBatch]:
    try:
        found = decoder.DecodeBatch(examples)
    except RuntimeError as error:  # bytes that are no tf.Example, or two types of one feature: which record is it?
        if len(examples) == 1:
            bad.add(BadRow(before + 1, None, f"it is no tf.Example ({error})", raw=repr(examples[0]), unit=UNIT))
            return
        for number, example in enumerate(examples):
            yield from _decoded(decoder, span, [example], columns, bad, before + number)
        return
    unknown = sorted(set(found.schema.names) - {column.name for column in columns})
    if unknown:
        names = ", ".join(f'"{name}"' for name in unknown)
        raise span.refused(f"its examples have unknown {names}; schema.pbtxt decides which columns a span has")
    wrong: dict[int, tuple[str, str]] = {}
    arrays = [_one_value(found, column, wrong) for column in columns]
    batch = pa.RecordBatch.from_arrays(arrays, [column.name for column in columns])
    wrong = dict(sorted((suspects(batch, columns) | wrong).items()))
    yield good_rows(batch, wrong, bad, before=before, unit=UNIT)


def _one_value(found: pa.RecordBatch, column: Column, wrong: dict[int, tuple[str, str]]) -> pa.Array:
    """The column's values in the agreed type, null where an example has none; rows with others go to `wrong`."""
    if column.name not in found.schema.names:
        return pa.nulls(found.num_rows, column.type.arrow)
    lists = found.column(column.name)
    if pa.types.is_null(lists.type):
        return pa.nulls(found.num_rows, column.type.arrow)
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    kind = lists.type.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        kind = pa.string()
    if kind != column.type.arrow:
        for row in pc.indices_nonzero(lengths).to_pylist():
            wrong.setdefault(row, (column.name, f"is {kind}, {column.type.value} was agreed"))
        return pa.nulls(found.num_rows, column.type.arrow)
    for row in pc.indices_nonzero(pc.greater(lengths, 1)).to_pylist():
        wrong.setdefault(row, (column.name, f"has {lengths[row].as_py():,} values, one was agreed"))
    first = pc.if_else(pc.greater(lengths, 0), lists.offsets[:-1], pa.scalar(None, lists.offsets.type))
    # Bad UTF-8 is told row by row later on.
    return lists.values.take(first).cast(options=pc.CastOptions(column.type.arrow, allow_invalid_utf8=True))
