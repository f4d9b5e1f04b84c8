"""schema.pbtxt as the columns that a span must have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from tiny_run import NOW, TINY

from ct.contracts import Span
from ct.errors import SpanRefusedError
from ct.sources.reader import Column, ColumnType
from ct.training.encode import encode
from ct.training.preload import tf
from ct.training.schema import columns_of, read_schema
from ct.training.span_reader import open_span

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
feature { name: "at" type: BYTES presence { min_fraction: 1 min_count: 1 } shape { } }
feature { name: "day" type: INT presence { min_fraction: 1 } int_domain { min: 0 max: 6 } }
feature { name: "humid" type: FLOAT float_domain { max: 100.5 } }
feature { name: "origin" type: BYTES string_domain { value: "EWR" } }
"""


def test_types_presence_and_ranges_of_a_schema_become_columns(tmp_path: Path) -> None:
    """A bound that the schema does not set is none, also where protobuf's default is 0; values of text are TFDV's to check."""
    path = tmp_path / "schema.pbtxt"
    path.write_text(SCHEMA, encoding="utf-8")
    assert columns_of(read_schema(path)) == (
        Column("at", ColumnType.STRING, required=True),
        Column("day", ColumnType.INT, required=True, minimum=0, maximum=6),
        Column("humid", ColumnType.FLOAT, required=False, maximum=100.5),
        Column("origin", ColumnType.STRING, required=False),
    )


@pytest.mark.parametrize("format_", ["csv", "parquet", "tfrecord"])
def test_row_without_a_required_label_is_a_bad_row_in_every_format(tmp_path: Path, format_: str) -> None:
    """It is quarantined where the pipeline allows bad rows, and refuses the span where it does not."""
    span = unlabelled_span(tmp_path / f"2013-01.{format_}", format_)
    columns = columns_of(read_schema(TINY / "schema.pbtxt"))
    with open_span(span, columns, max_bad_rows=1, quarantine_to=tmp_path) as stream:
        late = [value for batch in stream for value in batch.column("late").to_pylist()]
    assert late == [1, 0]
    (bad,) = (json.loads(line) for line in (tmp_path / "2013-01.jsonl").read_text(encoding="utf-8").splitlines())
    assert (bad["column"], bad["reason"]) == ("late", "has no value, and the schema asks for one")
    with (
        pytest.raises(SpanRefusedError, match='column "late"'),
        open_span(span, columns, max_bad_rows=0, quarantine_to=tmp_path) as stream,
    ):
        list(stream)


def unlabelled_span(path: Path, format_: str) -> Span:
    """Three rows as the tiny pipeline's schema asks for; the one in the middle has no label."""
    table = pa.table(
        {
            "time": ["2013-01-01T00:00:00"] * 3,
            "kind": ["a", "b", "c"],
            "size": pa.array([1.0, 2.0, 3.0], pa.float32()),
            "late": pa.array([1, None, 0]),
        }
    )
    if format_ == "csv":
        pyarrow.csv.write_csv(table, path)
    elif format_ == "parquet":
        pq.write_table(table, path)
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in encode(table.to_batches()[0]):
                writer.write(example)
    return Span(
        pipeline="tiny",
        name="2013-01",
        revision=1,
        sha256="0",
        uri=str(path),
        format=format_,
        size_bytes=path.stat().st_size,
        seen_at=NOW,
    )
