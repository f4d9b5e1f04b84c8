"""Raw rows as a model's serving signature and a JSON request take them: a value in each feature, in the signature's types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from ct.contracts import Feature
from ct.training.scores import batches_of_examples, first_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SIGNATURE, OUTPUT = "serving_default", "probability"
SAMPLE_ROWS = 4096
"""Rows on which a refit is compared with its twin, and which a proof replays."""
BATCH_ROWS = 4096


@dataclass(frozen=True)
class Rows:
    """Raw rows of the split that the candidate was judged on, none of them with a missing value."""

    features: Mapping[str, np.ndarray]
    """Feature -> array of shape (rows,), in the signature's type; text as bytes."""
    labels: np.ndarray
    """float32, (rows,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> Rows:
        """The first rows."""
        return Rows({name: values[:count] for name, values in self.features.items()}, self.labels[:count])


def sample_rows(split: Path, features: Sequence[Feature], label: str, seed: int) -> Rows:
    """A random sample of a split's rows that can be sent, at most SAMPLE_ROWS, in the order of the split.

    A row with a missing value is left out: the signature and JSON have no word for one. So is a row with NaN or infinity, and
    one without a label. Other columns of the split may hold what they like. The split is read in a stream, and the same seed
    draws the same rows.

    Args:
        split: folder of gzipped TFRecord files of tf.Examples.
        features: those of the signature.
        label: the feature that holds 1 for a positive row, 0 for any other.
        seed: the run's.
    """
    dtypes = {feature.name: tf.dtypes.as_dtype(feature.dtype).as_numpy_dtype for feature in features}
    dtypes[label] = np.float32
    chance, decoder = np.random.default_rng(seed), ExamplesToRecordBatchDecoder()
    kept = {name: np.empty(0, dtype) for name, dtype in dtypes.items()}
    keys = np.empty(0)  # a random number a row; the rows with the smallest ones are the sample
    for examples in batches_of_examples(split, BATCH_ROWS):
        batch = decoder.DecodeBatch(examples)
        columns = {name: _column(batch, name) for name in dtypes}
        whole = _sendable(list(columns.values()))
        keys = np.concatenate([keys, chance.random(int(whole.sum()))])
        drawn = np.sort(np.argsort(keys, kind="stable")[:SAMPLE_ROWS])
        keys = keys[drawn]
        for name, column in columns.items():
            values = column.filter(pa.array(whole)).to_numpy(zero_copy_only=False).astype(dtypes[name])
            kept[name] = np.concatenate([kept[name], values])[drawn]
    return Rows({name: values for name, values in kept.items() if name != label}, kept[label])


def signature_features(saved_model: Path) -> tuple[Feature, ...]:
    """The raw features that `serving_default` takes."""
    signature = tf.saved_model.load(str(saved_model)).signatures[SIGNATURE]
    return tuple(
        Feature(name=name, dtype=spec.dtype.name)
        for name, spec in sorted(signature.structured_input_signature[1].items())
    )


def predict(saved_model: Path, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probabilities of a SavedModel's `serving_default`, float32 (rows,)."""
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures[SIGNATURE]
    wanted = signature.structured_input_signature[1]
    given = {name: tf.constant(features[name], spec.dtype) for name, spec in wanted.items()}
    answer: np.ndarray = signature(**given)[OUTPUT].numpy()
    return answer


def predict_examples(saved_model: Path, rows: Rows) -> dict[str, Any]:
    """Rows as JSON values with what the model says of them: `{"instances": [...], "predictions": [...]}`."""
    columns = {name: [_plain(value) for value in values] for name, values in sorted(rows.features.items())}
    instances = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {"instances": instances, "predictions": [float(value) for value in predict(saved_model, rows.features)]}


def _sendable(columns: Sequence[pa.Array]) -> np.ndarray:
    """Which rows a JSON request can carry: those without a missing value, NaN or infinity. Bool, (rows,)."""
    whole = np.ones(len(columns[0]), bool)
    for column in columns:
        present = pc.is_finite(column) if pa.types.is_floating(column.type) else column.is_valid()
        whole &= pc.fill_null(present, fill_value=False).to_numpy(zero_copy_only=False)
    return whole


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A feature's one value a row, null where there is none; a feature that no example of a batch has is not in it."""
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows)
    return first_values(batch.column(name))


def _plain(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value.item()
