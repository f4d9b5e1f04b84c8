"""What candidate and champion say of every row that the gate judges on, and the file that keeps it.

On disk, in the Verdict artifact::

    scores.parquet    one row for each row of the split `eval`, in the order of its files
      label           bool
      candidate       float32, probability
      champion        float32, probability; without the column there was nothing to compare with
      slice.<feature> string, null where the row has no value
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from ct.errors import DataAnomalyError, UnscorableError
from ct.gate import Scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SCORES = "scores.parquet"
EXAMPLES_SIGNATURE = "serving_examples"
PLACES = ("Detected at node", "File ", "Node: ", "[[", "<stack traces")
"""How lines of TensorFlow's errors begin that say where, not what."""
BATCH_ROWS = 4096
PROBED_ROWS = 64
"""Rows that show whether a model answers at all."""
SLICE = "slice."
CANNOT_SCORE = (tf.errors.OpError, KeyError, OSError, TypeError, ValueError)
"""What TensorFlow raises for a folder that is no SavedModel, a signature that is not there, and rows that it cannot take."""


def read_examples(split: Path, rows: int = -1) -> list[bytes]:
    """Serialized tf.Examples of a split, in the order of its files; the first `rows` of them, by default all."""
    paths = [str(path) for path in sorted(split.iterdir())]
    return list(tf.data.TFRecordDataset(paths, compression_type="GZIP").take(rows).as_numpy_iterator())


def batches_of_examples(split: Path, rows: int) -> Iterator[list[bytes]]:
    """The same as a stream, so many at a time."""
    paths = [str(path) for path in sorted(split.iterdir())]
    batches = tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(rows)
    yield from (batch.tolist() for batch in batches.as_numpy_iterator())


def probabilities(saved_model: Path, examples: Sequence[bytes]) -> np.ndarray:
    """What a SavedModel's signature for tf.Examples predicts, float32 (rows,).

    Raises:
        UnscorableError: it cannot be loaded, or gives no answer to these rows.
    """
    try:
        signature = tf.saved_model.load(str(saved_model)).signatures[EXAMPLES_SIGNATURE]
        answers = [
            signature(tf.constant(examples[begin : begin + BATCH_ROWS]))["probability"].numpy()
            for begin in range(0, len(examples), BATCH_ROWS)
        ]
    except CANNOT_SCORE as error:
        raise UnscorableError(
            f"it gives no predictions for these rows: {_cause(error)}", model=str(saved_model)
        ) from error
    scored = np.concatenate(answers).astype(np.float32).reshape(-1)
    if scored.size != len(examples):
        raise UnscorableError(f"it gives {scored.size} predictions for {len(examples)} rows", model=str(saved_model))
    return scored


def unanswered(saved_model: Path, split: Path) -> str | None:
    """Why a model cannot score the rows of a split; None when it answers the first of them."""
    try:
        probabilities(saved_model, read_examples(split, PROBED_ROWS))
    except UnscorableError as error:
        return error.message
    return None


def score(
    examples: Sequence[bytes], *, label: str, slices: Sequence[str], candidate: Path, champion: Path | None
) -> Scores:
    """Every row, scored by both models.

    Args:
        examples: serialized tf.Examples, each with a label: ExampleValidator ends a run that has others.
        label: the feature that holds 1 for a positive row, 0 for any other.
        slices: features whose values the rows are sliced by.
        candidate: a SavedModel.
        champion: another, or None when there is nothing to compare with.

    Raises:
        UnscorableError: a model gives no answer to these rows; `model` says which.
        DataAnomalyError: a row has no label after all.
    """
    columns = ExamplesToRecordBatchDecoder().DecodeBatch(list(examples))
    names = columns.schema.names
    absent = pa.nulls(columns.num_rows, pa.string())
    labels = first_values(columns.column(names.index(label)))
    missing = pc.sum(pc.is_null(labels, nan_is_null=True)).as_py()
    if missing:  # as a truth value it would be a positive row
        told = f'{missing:,} of {len(labels):,} rows to judge on have no "{label}"'
        raise DataAnomalyError(f"{told}. Nothing was judged, and what serves stays.", anomalies=[f"eval: {told}"])
    return Scores(
        labels=labels.to_numpy(zero_copy_only=False).astype(bool),
        candidate=probabilities(candidate, examples).astype(np.float64),
        champion=None if champion is None else probabilities(champion, examples).astype(np.float64),
        slices={
            feature: _texts(columns.column(names.index(feature)) if feature in names else absent) for feature in slices
        },
    )


def write_scores(scores: Scores, path: Path) -> None:
    """Keep the rows, so that anybody can repeat the gate's statistics."""
    columns = {"label": pa.array(scores.labels), "candidate": pa.array(scores.candidate.astype(np.float32))}
    if scores.champion is not None:
        columns["champion"] = pa.array(scores.champion.astype(np.float32))
    columns |= {f"{SLICE}{feature}": pa.array(values, pa.string()) for feature, values in scores.slices.items()}
    pq.write_table(pa.table(columns), path)


def read_scores(path: Path) -> Scores:
    """The rows as `write_scores` kept them."""
    table = pq.read_table(path)
    numbers = {
        name: table.column(name).to_numpy().astype(np.float64)
        for name in ("candidate", "champion")
        if name in table.column_names
    }
    return Scores(
        labels=table.column("label").to_numpy().astype(bool),
        candidate=numbers["candidate"],
        champion=numbers.get("champion"),
        slices={
            name.removeprefix(SLICE): np.array(table.column(name).to_pylist(), dtype=object)
            for name in table.column_names
            if name.startswith(SLICE)
        },
    )


def first_values(column: pa.Array) -> pa.Array:
    """A feature's one value a row, null where there is none."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return column
    present = pc.and_(pc.is_valid(column), pc.greater(pc.fill_null(pc.list_value_length(column), 0), 0))
    return pc.list_element(pc.if_else(present, column, pa.scalar([None], column.type)), 0)


def _texts(column: pa.Array) -> np.ndarray:
    """Values as TFMA writes them in a slice's name, object (rows,)."""
    values = first_values(column).to_pylist()
    return np.array(
        [value.decode("utf-8") if isinstance(value, bytes) else _text(value) for value in values], dtype=object
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _cause(error: Exception) -> str:
    """The line of an error that names the cause. TensorFlow begins with a heading that ends in a colon, and lists nodes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.endswith(":") and not line.startswith(PLACES)]
    return (told or lines or [type(error).__name__])[0]
