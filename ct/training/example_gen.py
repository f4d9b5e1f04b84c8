"""ExampleGen: the spans of a run as TFX examples, each span encoded once and kept by its content hash.

On disk::

    artifacts/<pipeline>/
      spans/<sha256>-<schema hash>-<part>/
        data_tfrecord.gz    tf.Examples, TFRecord, gzip
        ready.json          {"rows": n, "quarantined": n}: written last
      ExampleGen/examples/<execution>/
        Split-train/        hard links to the parts above: every span but the newest
        Split-eval/         the newest span
"""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from ct.contracts import Span
from ct.home import write_atomically
from ct.sources.folder import sha256_of
from ct.sources.reader import read_span, refusal
from ct.training.facts import report
from ct.training.run import Run, load_run
from ct.training.schema import columns_of, read_schema

_log = logging.getLogger(__name__)

ROWS_A_BATCH = 8192
GZIP_LEVEL = 1
"""Fast; the files are read a few times and thrown away."""


@dataclass(frozen=True)
class Part:
    """An encoded span, or the rows of it that one split needs."""

    path: Path
    rows: int
    quarantined: int


@component
def SpanExampleGen(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str], examples: OutputArtifact[standard_artifacts.Examples]
) -> None:
    """Examples of the run's window, split by span: the newest is `eval`, all older ones are `train`.

    Of an only span the last days (`window.first_span_holdout_days`) are `eval`.

    Raises:
        SpanRefusedError: a span cannot be read as the schema asks.
    """
    run = load_run(request_path)
    splits = _parts(run)
    for split, parts in splits.items():
        folder = Path(examples.uri) / f"Split-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, part in enumerate(parts):
            os.link(part.path, folder / f"data_tfrecord-{index:05}-of-{len(parts):05}.gz")
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    newest = run.request.spans[-1]
    examples.set_string_custom_property("span", newest.name)
    rows = {split: sum(part.rows for part in parts) for split, parts in splits.items()}
    quarantined = sum(part.quarantined for parts in splits.values() for part in parts)
    report(
        f"{rows['train']:,} rows to train on, {rows['eval']:,} of span {newest.name} to judge on, {quarantined} quarantined",
        rows=rows,
        quarantined=quarantined,
    )


def _parts(run: Run) -> dict[str, list[Part]]:
    schema_text = (run.pipeline_folder / "schema.pbtxt").read_bytes()
    encoder = _Encoder(run, hashlib.sha256(schema_text).hexdigest()[:12])
    *older, newest = run.request.spans
    if older:
        return {"train": [encoder.part(span, "all") for span in older], "eval": [encoder.part(newest, "all")]}
    return {"train": [encoder.part(newest, "train")], "eval": [encoder.part(newest, "eval")]}


class _Encoder:
    """Encodes spans of one run, and finds those that were encoded before."""

    def __init__(self, run: Run, schema_hash: str) -> None:
        self._run = run
        self._schema_hash = schema_hash
        self._columns = columns_of(read_schema(run.pipeline_folder / "schema.pbtxt"))

    def part(self, span: Span, which: str) -> Part:
        """The span's rows: `all`, or `train` or `eval` of an only span."""
        days = self._run.config.window.first_span_holdout_days
        suffix = which if which == "all" else f"{which}{days}"
        artifacts = self._run.home.artifacts(self._run.request.pipeline)
        folder = artifacts / "spans" / f"{span.sha256}-{self._schema_hash}-{suffix}"
        ready, data = folder / "ready.json", folder / "data_tfrecord.gz"
        if ready.exists():
            _log.info("span %s was encoded before", span.name)
            return Part(data, **json.loads(ready.read_text(encoding="utf-8")))
        source = Path(span.uri)
        _require_same_bytes(source, span)
        read = read_span(
            source,
            span.format,
            self._columns,
            max_bad_rows=self._run.config.source.max_bad_rows,
            quarantine_to=self._run.home.quarantine(self._run.request.pipeline),
        )
        table = read.table if which == "all" else self._held_out(source, read.table, which)
        folder.mkdir(parents=True, exist_ok=True)
        _write_examples(table, data)
        counts = {"rows": table.num_rows, "quarantined": read.quarantined}
        write_atomically(ready, json.dumps(counts))
        return Part(data, **counts)

    def _held_out(self, source: Path, table: pa.Table, which: str) -> pa.Table:
        """The rows before, or from, the last days of an only span."""
        window = self._run.config.window
        try:
            times = pc.strptime(pc.utf8_slice_codeunits(table[window.time_column], 0, 19), "%Y-%m-%dT%H:%M:%S", "s")
        except pa.ArrowInvalid as error:
            raise refusal(source, f'column "{window.time_column}" is not ISO 8601 time ({error})') from error
        begin = pc.subtract(pc.max(times), pa.scalar(window.first_span_holdout_days * 86400, pa.duration("s")))
        judged_on = pc.greater(times, begin)
        rows = table.filter(judged_on if which == "eval" else pc.invert(judged_on))
        if rows.num_rows == 0:
            raise refusal(
                source, f"its rows span less than {window.first_span_holdout_days} days, so none can be held out"
            )
        return rows


def _require_same_bytes(source: Path, span: Span) -> None:
    """The run was asked to train on the bytes that landed; others under the same name are a revision, for another run."""
    try:
        found = sha256_of(source)
    except OSError as error:
        raise refusal(source, f"it cannot be read: {error.strerror or error}") from error
    if found != span.sha256:
        raise refusal(source, "its bytes changed after they landed; what is there now counts as a new revision")


def _write_examples(table: pa.Table, path: Path) -> None:
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=GZIP_LEVEL)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for batch in table.to_batches(max_chunksize=ROWS_A_BATCH):
            lists = [_one_value_lists(batch.column(index)) for index in range(batch.num_columns)]
            record_batch = pa.RecordBatch.from_arrays(lists, batch.schema.names)
            for example in _encode(record_batch):
                writer.write(example)


def _encode(batch: pa.RecordBatch) -> Sequence[bytes]:
    examples: Sequence[bytes] = RecordBatchToExamplesEncoder().encode(batch)
    return examples


def _one_value_lists(column: pa.Array) -> pa.Array:
    """Arrow's columns as tf.Example wants them: a list a row, null where there is no value."""
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    present = pc.is_valid(column)
    offsets = pa.concat_arrays(
        [pa.array([0], pa.int32()), pc.cumulative_sum(present.cast(pa.int32())).cast(pa.int32())]
    )
    lists = pa.ListArray.from_arrays(offsets, column.drop_null())
    return pc.if_else(present, lists, pa.scalar(None, lists.type)) if column.null_count else lists
