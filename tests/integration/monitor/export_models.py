"""Run by the serving plane: `python export_models.py FOLDER` writes the SavedModels that the tests of the monitor roll out.

::

    FOLDER/good, wrong, failing, slow    one raw feature x; good predicts x, and so do failing and slow, in their own ways
"""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

FAILS_FROM = 0.8
SLOW_LOOPS = 20_000
"""A loop takes about 3 us."""


def _export(folder: Path, *, wrong: bool = False, failing: bool = False, loops: int = 0) -> None:
    module = tf.Module()
    module.factor = tf.Variable(1.0)

    @tf.function(input_signature=[{"x": tf.TensorSpec([None], tf.float32, name="x")}])
    def predict(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        x = features["x"] * module.factor
        steps = tf.constant(loops, tf.int64)
        waited = tf.while_loop(lambda step: step < steps, lambda step: step + 1, [tf.constant(0, tf.int64)])[0]
        broken = tf.reduce_any(x >= FAILS_FROM) if failing else tf.constant(value=False)
        read = tf.cond(broken, lambda: tf.io.read_file("/no/such/file"), lambda: tf.constant(""))
        with tf.control_dependencies([waited, read]):
            return {"probability": tf.identity(1.0 - x if wrong else x)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict})


def main() -> None:
    """Write all of them."""
    folder = Path(sys.argv[1])
    _export(folder / "good")
    _export(folder / "wrong", wrong=True)
    _export(folder / "failing", failing=True)
    _export(folder / "slow", loops=SLOW_LOOPS)


if __name__ == "__main__":
    main()
