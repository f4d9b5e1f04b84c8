"""Our ExampleGen's work on one CSV file: `python -m bench.ingest.ours <csv> <sha256> <folder>`, in the training plane.

The hash is checked, each row read and checked against the schema, and all of them encoded.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

import tensorflow as tf

from bench.ingest.measured import measure
from bench.ingest.places import SCHEMA
from ct.contracts import Span
from ct.training import preload
from ct.training.encode_span import SpanEncoder
from ct.training.schema import columns_of, read_schema

assert preload.LOADED  # noqa: S101  memory is measured above what a node's process has loaded
EXAMPLES_A_BATCH = 8192


def main() -> int:
    """Encode the file."""
    path, sha256, folder = sys.argv[1:]
    span = Span(
        pipeline="flights",
        name=Path(path).stem,
        revision=1,
        sha256=sha256,
        uri=path,
        format="csv",
        size_bytes=Path(path).stat().st_size,
        seen_at=datetime.now(timezone.utc),
    )
    part = Path(folder) / "part"
    encoder = SpanEncoder(columns_of(read_schema(SCHEMA)), max_bad_rows=0, quarantine_to=Path(folder), key="bench")
    measure(lambda: _encode(encoder, span, part), lambda: count_rows(part))
    return 0


def count_rows(folder: Path) -> int:
    """How many examples TensorFlow reads in the files of a folder and those below."""
    files = [str(path) for path in sorted(folder.rglob("data_tfrecord*.gz"))]
    examples = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(EXAMPLES_A_BATCH)
    return sum(int(batch.shape[0]) for batch in examples)


def _encode(encoder: SpanEncoder, span: Span, part: Path) -> None:
    encoder.whole(span, part)


if __name__ == "__main__":
    sys.exit(main())
