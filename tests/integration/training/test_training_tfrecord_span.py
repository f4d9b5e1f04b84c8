"""TFRecord of tf.Example as a span: read in the agreed types, or refused with the record and the reason."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder  # noqa: F401  loaded before any fork

from ct.errors import SpanRefusedError
from ct.sources.reader import Column, ColumnType, SpanFile, read_span
from ct.training.preload import tf
from ct.training.span_reader import TRAINING_FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMNS = (
    Column("carrier", ColumnType.STRING, required=True),
    Column("distance", ColumnType.FLOAT, required=False, minimum=0),
    Column("late", ColumnType.INT, required=True),
)


def example(**values: Any) -> bytes:
    """A tf.Example; bytes, floats and ints, alone or in a list."""
    features = {}
    for name, given in values.items():
        value = given if isinstance(given, list) else [given]
        if isinstance(value[0], bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        elif isinstance(value[0], float):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return serialized


GOOD = (example(carrier=b"UA", distance=1.5, late=0), example(carrier=b"AA", late=1))
GOOD_ROWS = [("UA", 1.5, 0), ("AA", None, 1)]


def write(path: Path, records: Sequence[bytes], compression: str | None = None) -> Path:
    """A TFRecord file, written by TensorFlow."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


def read(path: Path, max_bad_rows: int = 0) -> list[tuple[Any, ...]]:
    """The good rows."""
    span = SpanFile("span", path)
    with read_span(
        span, "tfrecord", COLUMNS, max_bad_rows=max_bad_rows, quarantine_to=path.parent, formats=TRAINING_FORMATS
    ) as stream:
        return [tuple(row.values()) for batch in stream for row in batch.to_pylist()]


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_plain_and_compressed_files_give_the_same_rows(tmp_path: Path, compression: str | None) -> None:
    """A missing feature is a missing value."""
    assert read(write(tmp_path / "span.tfrecord", GOOD, compression)) == GOOD_ROWS


@pytest.mark.parametrize(
    ("bad", "column", "reason"),
    [
        (example(carrier=b"B6"), "late", "has no value, and the schema asks for one"),
        (example(carrier=b"B6", late=[0, 1]), "late", "has 2 values, one was agreed"),
        (example(carrier=b"\xff", late=0), "carrier", "is not UTF-8"),
        (example(carrier=b"B6", late=0, distance=float("nan")), "distance", "is not a finite number of 32 bits"),
        (example(carrier=b"B6", late=0, distance=-3.0), "distance", "is -3, below the schema's minimum of 0"),
        (example(carrier=b"B6", late=1.0), "late", "is float, int64 was agreed"),
    ],
)
def test_exactly_the_bad_records_are_left_out(tmp_path: Path, bad: bytes, column: str, reason: str) -> None:
    """With their numbers, counting from 1."""
    path = write(tmp_path / "span.tfrecord", [GOOD[0], bad, GOOD[1]])
    assert read(path, max_bad_rows=1) == GOOD_ROWS
    (row,) = [json.loads(line) for line in (tmp_path / "span.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (row["record"], row["column"], row["reason"]) == (2, column, reason)


def test_a_record_that_is_no_example_is_left_out(tmp_path: Path) -> None:
    """It costs itself only."""
    path = write(tmp_path / "span.tfrecord", [GOOD[0], b"\xff\xff\xff", GOOD[1]])
    assert read(path, max_bad_rows=1) == GOOD_ROWS
    with pytest.raises(SpanRefusedError, match=r"record 2: it is no tf\.Example"):
        read(path)


def test_a_feature_that_was_not_agreed_refuses_the_span(tmp_path: Path) -> None:
    """As an unknown column does."""
    with pytest.raises(SpanRefusedError, match='its examples have unknown "tail"'):
        read(write(tmp_path / "span.tfrecord", [example(carrier=b"UA", late=0, tail=b"N1")]))


@pytest.mark.parametrize("compression", [None, "GZIP"])
@pytest.mark.parametrize("kept", [3, 10, -1, -5, -12])
def test_a_cut_file_is_refused(tmp_path: Path, compression: str | None, kept: int) -> None:
    """TensorFlow's own reader takes some of these for whole files."""
    path = write(tmp_path / "span.tfrecord", GOOD * 100, compression)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SpanRefusedError, match="not a whole"):
        read(path)


def test_a_damaged_byte_is_found(tmp_path: Path) -> None:
    """By the record's checksum."""
    path = write(tmp_path / "span.tfrecord", GOOD)
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(SpanRefusedError, match="record 1 is cut or damaged"):
        read(path)


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    """For example a CSV under the wrong name, or a compressed one."""
    path = tmp_path / "span.tfrecord"
    for content in (b"carrier,distance,late\nUA,1,0\n", gzip.compress(b"carrier,distance,late\nUA,1,0\n")):
        path.write_bytes(content)
        with pytest.raises(SpanRefusedError, match="record 1 is cut or damaged"):
            read(path)
