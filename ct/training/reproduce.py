"""A rebuilt model beside the registered one: predictions and weights. Run by ct.reproduce, in the training plane."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tfx.utils import path_utils

from ct.rollout import tree_sha256
from ct.training.answering import answer
from ct.training.scores import read_examples

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 20_000
"""Of the judged span at most: a few seconds of predicting."""
ROWS_A_BATCH = 1024
OUTPUT = "probability"


def compare(registered: Path, rebuilt: Path, examples: Path, rows: Path) -> dict[str, Any]:
    """The largest absolute differences between two SavedModels; ct.reproduce.Comparison says what each is.

    Args:
        registered: the SavedModel of the model store.
        rebuilt: the one that was trained again.
        examples: `{"instances": [...], "predictions": [...]}` of the registered one, computed when it was registered.
        rows: folder of gzipped TFRecord files with the tf.Examples that the candidate was judged on.
    """
    before, after = (tf.saved_model.load(str(path)).signatures for path in (registered, rebuilt))
    recorded = json.loads(examples.read_text(encoding="utf-8"))
    records = read_examples(rows, ROWS)
    weights, weights_difference = compare_weights(registered, rebuilt)
    return {
        "examples": len(recorded["predictions"]),
        "examples_difference": _largest(
            np.array(recorded["predictions"]), _of_instances(after["serving_default"], recorded["instances"])
        ),
        "rows": len(records),
        "rows_difference": _largest(
            *(_of_examples(signatures["serving_examples"], records) for signatures in (before, after))
        ),
        "weights": weights,
        "weights_difference": weights_difference,
        "saved_model_sha256": tree_sha256(rebuilt),
    }


def compare_weights(registered: Path, rebuilt: Path) -> tuple[int, float]:
    """How many weights two SavedModels have, and their largest difference; infinite where names or shapes differ."""
    before, after = (tf.train.load_checkpoint(str(path / "variables" / "variables")) for path in (registered, rebuilt))
    shapes = before.get_variable_to_shape_map()
    if shapes != after.get_variable_to_shape_map():
        return sum(int(np.prod(shape)) for shape in shapes.values()), float("inf")
    numbers = [name for name, kind in before.get_variable_to_dtype_map().items() if kind.is_floating]
    tensors = [(before.get_tensor(name), after.get_tensor(name)) for name in numbers]
    return sum(one.size for one, _ in tensors), max((_largest(*pair) for pair in tensors), default=0.0)


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference; infinite where a value is not finite, 0 of nothing."""
    differences = np.abs(one.astype(np.float64) - other.astype(np.float64))
    if not np.isfinite(differences).all():
        return float("inf")
    return float(differences.max(initial=0.0))


def _of_instances(signature: Any, instances: Sequence[dict[str, Any]]) -> np.ndarray:
    wanted = signature.structured_input_signature[1]
    columns = {name: [instance[name] for instance in instances] for name in wanted}
    found: np.ndarray = signature(**{name: tf.constant(columns[name], spec.dtype) for name, spec in wanted.items()})[
        OUTPUT
    ].numpy()
    return found


def _of_examples(signature: Any, records: Sequence[bytes]) -> np.ndarray:
    batches = (records[begin : begin + ROWS_A_BATCH] for begin in range(0, len(records), ROWS_A_BATCH))
    return np.concatenate([signature(tf.constant(batch))[OUTPUT].numpy() for batch in batches])


def main(argv: Sequence[str] | None = None) -> int:
    """Answer the request that the command line names."""
    del argv  # `answer` reads sys.argv, which the warm worker sets
    return answer(_asked)


def _asked(request: dict[str, str]) -> dict[str, Any]:
    rebuilt = Path(path_utils.serving_model_path(request["rebuilt"]))
    return compare(Path(request["registered"]), rebuilt, Path(request["examples"]), Path(request["rows"]))


if __name__ == "__main__":
    sys.exit(main())
