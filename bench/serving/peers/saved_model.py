"""What all peers do with the model: load the SavedModel and call its signature. What helps ours in this is done here too."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

FOLDER_VARIABLE = "BENCH_SAVED_MODEL"
SIGNATURE, OUTPUT = "serving_default", "probability"
WARM_BATCHES = (1, 2, 4, 8, 16, 32)


class SavedModel:
    """A SavedModel in memory, warmed.

    Args:
        folder: where it is; by default what the environment variable BENCH_SAVED_MODEL names.
    """

    def __init__(self, folder: str | None = None) -> None:
        tf.config.threading.set_inter_op_parallelism_threads(1)  # small operations cost less than handing them over
        self._model = tf.saved_model.load(folder or os.environ[FOLDER_VARIABLE])  # held: its functions hold it weakly
        self._signature = self._model.signatures[SIGNATURE]
        self.dtypes = {name: spec.dtype for name, spec in self._signature.structured_input_signature[1].items()}
        """Feature -> tf.DType."""
        for rows in WARM_BATCHES:
            self._signature(**{name: tf.zeros(rows, dtype) for name, dtype in self.dtypes.items()})
        gc.collect()
        gc.freeze()  # TensorFlow's million objects stay; looking through them stops a server for 200 ms each time

    def predict_columns(self, columns: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Probabilities, float32 (rows,), of each feature's values, shape (rows,)."""
        tensors = {name: tf.constant(columns[name], dtype) for name, dtype in self.dtypes.items()}
        predicted: np.ndarray[Any, Any] = self._signature(**tensors)[OUTPUT].numpy()
        return predicted

    def predict_rows(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
        """Probabilities, float32 (rows,), of rows that hold each feature."""
        return self.predict_columns({name: [row[name] for row in rows] for name in self.dtypes})
