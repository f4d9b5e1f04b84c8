"""What the warm worker preloads must be safe to fork."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import threading
import ct.training.preload
from tensorflow.python.eager import context
print([thread.name for thread in threading.enumerate()], context.context()._initialized)
"""


def test_preloading_starts_no_thread_and_runs_no_operation() -> None:
    """After the import there is one Python thread, and TensorFlow's runtime is not initialised."""
    probe = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    assert probe.stdout.strip() == "['MainThread'] False"


def test_keras_is_spared_from_source_conversion() -> None:
    """Tracing a Keras 2 model must not convert Keras's own source code: that is 20 s a model."""
    from tensorflow.python.autograph.core import config  # noqa: PLC0415  the other test must not find it loaded here

    from ct.training import preload  # noqa: PLC0415

    assert preload.LOADED
    rules = [rule for rule in config.CONVERSION_RULES if rule.matches("tf_keras.src.engine.training")]
    assert isinstance(rules[0], config.DoNotConvert)
