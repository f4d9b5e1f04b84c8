"""Rows that a version is proven with: real tf.Examples with missing values, and a SavedModel that takes text and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tiny_run import in_fork, write_split

from ct.contracts import Feature
from ct.training import rows as rows_module
from ct.training.rows import SAMPLE_ROWS, predict_examples, sample_rows, signature_features

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = (
    Feature(name="count", dtype="int64"),
    Feature(name="size", dtype="float32"),
    Feature(name="text", dtype="string"),
)
WHOLE = {
    "count": pa.array([1, 2, 3, 4, 5]),
    "size": pa.array([0.5, 1.5, 2.5, 3.5, 4.5], pa.float32()),
    "text": pa.array(["a", "b", "c", "d", "e"]),
    "late": pa.array([1, 0, 1, 0, 1]),
}


def sampled(split: Path, seed: int = 7) -> dict[str, list[Any]]:
    """Columns of the sample, the label too."""
    found = in_fork(sample_rows, split, FEATURES, "late", seed)
    assert [found.features[each.name].dtype for each in FEATURES] == [np.int64, np.float32, object]
    assert found.labels.dtype == np.float32
    return {**{name: values.tolist() for name, values in found.features.items()}, "late": found.labels.tolist()}


@pytest.mark.parametrize("name", list(WHOLE))
@pytest.mark.parametrize("missing", [[0], [3], [0, 1, 4]], ids=str)
def test_rows_with_a_missing_value_are_left_out(tmp_path: Path, name: str, missing: list[int]) -> None:
    """Of any type, a label, and in the first row too; types are the signature's, and the others keep values and order."""
    holey = pa.array([None if row in missing else value for row, value in enumerate(WHOLE[name].to_pylist())])
    split = write_split(tmp_path, **(WHOLE | {name: holey.cast(WHOLE[name].type)}))
    left = [row for row in range(5) if row not in missing]
    assert sampled(split) == {
        "count": [left_row + 1 for left_row in left],
        "size": [left_row + 0.5 for left_row in left],
        "text": [b"abcde"[left_row : left_row + 1] for left_row in left],
        "late": [float((left_row + 1) % 2) for left_row in left],
    }


def test_a_column_that_is_not_served_may_hold_what_it_likes(tmp_path: Path) -> None:
    """Nothing at all, for one."""
    split = write_split(tmp_path, **WHOLE, note=pa.nulls(5, pa.string()), age=pa.array([None, None, 3, 4, None]))
    assert sampled(split)["count"] == [1, 2, 3, 4, 5]


def test_rows_that_json_cannot_carry_are_left_out(tmp_path: Path) -> None:
    """NaN and infinity."""
    size = pa.array([1.0, np.nan, np.inf, -np.inf, 2.0], pa.float32())
    assert sampled(write_split(tmp_path, **(WHOLE | {"size": size})))["text"] == [b"a", b"e"]


def test_a_split_without_a_whole_row_gives_none(tmp_path: Path) -> None:
    """Also where no example has the feature."""
    split = write_split(tmp_path, **(WHOLE | {"count": pa.nulls(5, pa.int64())}))
    assert sampled(split) == {"count": [], "size": [], "text": [], "late": []}


def test_the_sample_is_of_the_whole_split_and_the_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows from each tenth of it, about; drawn batch by batch, the same again, in order, none of them twice."""
    monkeypatch.setattr(rows_module, "SAMPLE_ROWS", 300)
    monkeypatch.setattr(rows_module, "BATCH_ROWS", 128)
    numbers = np.arange(3000)
    split = write_split(
        tmp_path,
        count=pa.array(numbers),
        size=pa.array(numbers, pa.float32()),
        text=pa.array(map(str, numbers)),
        late=pa.array(numbers % 2),
    )
    counts = sampled(split)["count"]
    assert len(counts) == 300
    assert counts == sorted(set(counts))
    tenths = np.histogram(counts, bins=10, range=(0, 3000))[0]
    assert tenths.min() >= 10, tenths
    assert sampled(split)["count"] == counts
    assert sampled(split, seed=8)["count"] != counts


def test_a_split_that_is_smaller_than_the_sample_is_taken_whole(tmp_path: Path) -> None:
    """Every row, in order."""
    assert sampled(write_split(tmp_path, **WHOLE))["count"] == [1, 2, 3, 4, 5]
    assert len(WHOLE["late"]) < SAMPLE_ROWS


def test_examples_are_rows_that_the_model_takes_and_a_request_carries(tmp_path: Path) -> None:
    """Each instance has every feature, as JSON's own types, and the model's prediction of it."""
    gone = {"count": [None, 2, 3, 4, 5], "size": [0.5, None, 2.5, 3.5, 4.5], "text": ["a", "b", None, "d", "é"]}
    split = write_split(
        tmp_path / "split",
        **(WHOLE | {name: pa.array(values).cast(WHOLE[name].type) for name, values in gone.items()}),
    )
    assert in_fork(_examples, split, tmp_path / "model") == {
        "instances": [{"count": 4, "size": 3.5, "text": "d"}, {"count": 5, "size": 4.5, "text": "é"}],
        "predictions": [4 + 3.5 + 1, 5 + 4.5 + 2],
    }


def _examples(split: Path, saved_model: Path) -> dict[str, Any]:
    """A model whose answer is number + number + bytes of the text."""
    taken = {each.name: tf.TensorSpec([None], each.dtype, name=each.name) for each in FEATURES}

    @tf.function(input_signature=[taken])
    def serving_default(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        length = tf.cast(tf.strings.length(row["text"]), tf.float32)
        return {"probability": tf.cast(row["count"], tf.float32) + row["size"] + length}

    tf.saved_model.save(tf.Module(), str(saved_model), signatures={"serving_default": serving_default})
    features = signature_features(saved_model)
    assert features == FEATURES
    return predict_examples(saved_model, sample_rows(split, features, "late", 7))
