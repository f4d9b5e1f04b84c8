"""`python -m demo.offline`: AUCs of versions on spans, from their files alone. Run in the training plane."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from ct.training.answering import answer

if TYPE_CHECKING:
    from pathlib import Path

ROWS_A_BATCH = 4096


def auc(saved_model: str | Path, span: str | Path, label: str) -> float:
    """The AUC of a SavedModel's `serving_default` on a Parquet span; rows with a missing value are left out."""
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    wanted = signature.structured_input_signature[1]
    table = pq.read_table(span).drop_null()
    scores: list[float] = []
    for begin in range(0, table.num_rows, ROWS_A_BATCH):
        rows = table.slice(begin, ROWS_A_BATCH)
        inputs = {name: tf.constant(rows[name].to_pylist(), spec.dtype) for name, spec in wanted.items()}
        scores.extend(signature(**inputs)["probability"].numpy())
    return float(roc_auc_score(table[label].to_pylist(), scores))


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """`{"label": ..., "pairs": [{"model": folder, "span": file}, ...]}` -> `{"aucs": [...]}` in the same order."""
    return {"aucs": [auc(pair["model"], pair["span"], request["label"]) for pair in request["pairs"]]}


if __name__ == "__main__":
    sys.exit(answer(_asked))
