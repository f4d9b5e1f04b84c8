"""One scaled number and one vocabulary id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow_transform as tft

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tensorflow as tf

LABEL = "late"


def preprocessing_fn(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Raw features, each (batch,), to `size` float32 (batch,), `kind` int64 (batch,) and the label."""
    return {
        "size": tft.scale_to_z_score(inputs["size"]),
        "kind": tft.compute_and_apply_vocabulary(inputs["kind"], num_oov_buckets=1),
        LABEL: inputs[LABEL],
    }
