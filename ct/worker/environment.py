"""The environment variables of everything that runs in the training plane."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ct.settings import PREFIX

if TYPE_CHECKING:
    from ct.home import Home
    from ct.settings import Settings


def training_environment(home: Home, settings: Settings) -> dict[str, str]:
    """Variables to lay over an inherited environment; TensorFlow reads its own when it is imported."""
    stored = settings.model_dump(mode="json", exclude_none=True)
    return {
        "CT_HOME": str(home.root),
        **{PREFIX + key.upper(): str(value) for key, value in stored.items()},
        # TFX 1.16 is written for Keras 2 (DESIGN.md section 2).
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        # The training plane has no GPU build of TensorFlow; looking for one costs a second and prints errors.
        "CUDA_VISIBLE_DEVICES": "",
        # numpy's BLAS would start a thread a core on import, in a server that must fork; TensorFlow has threads of its own.
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
