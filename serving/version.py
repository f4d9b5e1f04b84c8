"""One version of a model, loaded: load, prove, predict. Dropping the last reference unloads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ct.errors import CTError
from serving.codec import columns_from_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.contracts import Feature, VersionManifest
    from ct.rollout import ModelStore

SIGNATURE = "serving_default"
OUTPUT = "probability"
WARM_BATCHES = (1, 2, 8, 32)
"""Batch sizes that are predicted once before a version serves, so that no request pays for TensorFlow's first run."""


class VersionRefusedError(CTError):
    """A version cannot serve: its files do not load, or its predictions are not those computed offline."""


class LoadedVersion:
    """A SavedModel in memory, whose `serving_default` takes raw features.

    Args:
        manifest: the version's manifest.
        model: what tf.saved_model.load returned; held, because its functions hold its variables weakly.
    """

    def __init__(self, manifest: VersionManifest, model: Any) -> None:
        self.manifest = manifest
        self.version = manifest.version
        self._model = model
        self._predict = model.signatures[SIGNATURE]
        self._dtypes = {feature.name: tf.dtypes.as_dtype(feature.dtype) for feature in manifest.features}

    @property
    def features(self) -> tuple[Feature, ...]:
        """The raw features a request must give."""
        return self.manifest.features

    def predict(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Predict a batch. Safe from several threads.

        Args:
            columns: each feature's values, shape (rows,).

        Returns:
            Probabilities, float32, (rows,).
        """
        tensors = {name: tf.constant(columns[name], dtype) for name, dtype in self._dtypes.items()}
        predicted: np.ndarray[Any, Any] = self._predict(**tensors)[OUTPUT].numpy()
        return predicted


def load_version(store: ModelStore, version: int) -> LoadedVersion:
    """Load a version, prove it against its offline predictions, and warm it.

    Raises:
        UnknownVersionError: its folder is missing or not complete.
        VersionRefusedError: it does not load, or predicts something else than it did offline.
    """
    manifest = store.manifest(version)
    folder = store.version_path(version)
    try:
        loaded = LoadedVersion(manifest, tf.saved_model.load(str(folder / "saved_model")))
        examples = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        columns = columns_from_rows(manifest.features, examples["instances"])
        expected = np.asarray(examples["predictions"], np.float32)
        predicted = loaded.predict(columns)
    except Exception as error:  # a damaged SavedModel makes TensorFlow raise almost anything
        text = str(error).strip().splitlines()
        raise VersionRefusedError(
            f"version {version} does not load: {type(error).__name__}: {text[0] if text else 'no message'}",
            version=version,
        ) from error
    _require_agreement(manifest, predicted, expected)
    for rows in WARM_BATCHES:
        loaded.predict({name: np.resize(values, rows) for name, values in columns.items()})
    return loaded


def _require_agreement(
    manifest: VersionManifest, predicted: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> None:
    if predicted.shape != expected.shape:
        raise VersionRefusedError(
            f"version {manifest.version} predicts shape {predicted.shape}, offline it was {expected.shape}",
            version=manifest.version,
        )
    difference = np.abs(predicted - expected)
    if not np.all(difference <= manifest.prediction_tolerance):
        row = int(np.argmax(difference))
        raise VersionRefusedError(
            f"version {manifest.version} predicts {predicted[row]:.6f} for example {row}, offline it was {expected[row]:.6f}; "
            f"{manifest.prediction_tolerance:g} is allowed",
            version=manifest.version,
        )
