"""Keeps TensorFlow from translating the source of libraries that need no translation: 46 s of a training become 10 s.

AutoGraph skips the code of `tensorflow` and `keras`, but not of `tf_keras`, which is the same Keras 2 under the name that
TF_USE_LEGACY_KERAS=1 gives it, nor of TensorFlow Transform. Each of their functions is then parsed, rewritten and compiled
anew in every process. A pipeline's own code is translated as before.
"""

from __future__ import annotations

from tensorflow.python.autograph.core import config

LIBRARIES = ("tf_keras", "tensorflow_transform", "tfx_bsl", "tensorflow_model_analysis", "tfx")


def leave_libraries_alone() -> None:
    """Add the libraries to AutoGraph's own list of those it skips. Calling it again changes nothing."""
    known = {rule._prefix for rule in config.CONVERSION_RULES}  # noqa: SLF001  TensorFlow has no public way
    added = tuple(config.DoNotConvert(name) for name in LIBRARIES if name not in known)
    config.CONVERSION_RULES = added + config.CONVERSION_RULES
