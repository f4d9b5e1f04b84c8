"""What nodes need, imported once: the warm worker loads this module before it forks, a node of its own at its start.

Importing runs no TensorFlow operation and starts no thread, so that a fork of the importing process is safe.
"""

from __future__ import annotations

import os
import warnings

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TFX 1.16 is written for Keras 2, and tensorflow reads it on import
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # CPU features and missing GPUs are no news
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it starts a thread on import, and calls home
warnings.filterwarnings("ignore", message="You are using a non-supported Python version", category=FutureWarning)

import mlflow  # noqa: E402  these come after the variables that they read
import tensorflow as tf  # noqa: E402
import tensorflow_data_validation as tfdv  # noqa: E402
import tensorflow_model_analysis as tfma  # noqa: E402
import tensorflow_transform as tft  # noqa: E402
from tfx import v1 as tfx  # noqa: E402

from ct.made_with import made_with_now  # noqa: E402
from ct.training import evaluation, example_gen, node, transform, validator  # noqa: E402
from ct.training.autograph import leave_libraries_alone  # noqa: E402

leave_libraries_alone()

MADE_WITH = made_with_now()
"""Read beside the imports, because a fork runs what was imported here and not what is on disk by then."""
LOADED = (mlflow, tf, tfdv, tfma, tft, tfx, evaluation, example_gen, node, transform, validator)


def seed(value: int) -> None:
    """Seed Python's, numpy's and TensorFlow's random numbers, so that a run can be repeated."""
    tf.keras.utils.set_random_seed(value)
