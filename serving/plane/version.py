"""One version of a model, loaded: load, prove, predict. It unloads when the last reference is dropped.

Requests in flight hold it, and its batcher does not. What TensorFlow made of its graph refers to itself in circles, and goes
when Python's collector next comes by.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ct.errors import CTError
from ct.rollout import tree_sha256
from serving.plane.room import size_mb
from serving.rows import OUTPUT, SIGNATURE, BadRequestError, Layout, from_objects, join

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.contracts import VersionManifest
    from ct.rollout import ModelStore
    from serving.plane.batcher import Batcher
    from serving.rows import Rows

WARM_BATCHES = (1, 2, 8, 16, 32, 64)
"""Batch sizes that are predicted before a version serves, so that no request pays for TensorFlow's first runs."""
WARM_RUNS = 5
INLINE_S = 0.001
"""A batch that takes no longer runs on the event loop: a thread's hand-over would cost about as much as the prediction."""
SHOWN_CHARACTERS = 300
SHOWN_DIGITS = 12


class VersionRefusedError(CTError):
    """A version cannot serve: its files are others or do not load, or its predictions are not those computed offline."""


class LoadedVersion:
    """A SavedModel in memory, whose `serving_default` takes raw features.

    Args:
        manifest: the version's manifest.
        model: what tf.saved_model.load returned; held, because its functions hold its variables weakly.
        memory_mb: about what it takes, in MiB.
    """

    def __init__(self, manifest: VersionManifest, model: Any, memory_mb: float) -> None:
        self.manifest = manifest
        self.version = manifest.version
        self.layout = Layout(manifest.features)
        self.memory_mb = memory_mb
        self.example: dict[str, Any] = {}
        """A row that it can predict."""
        self.batcher: Batcher | None = None
        """The queue in front of it; the data plane makes it at the first request."""
        self.inline_rows = 0
        """Rows of the largest batch that may run on the event loop; `warm` measures it."""
        self._model = model
        self._predict = _packed(model.signatures[SIGNATURE], self.layout)

    def predict(self, rows: Rows) -> np.ndarray[Any, Any]:
        """Predict a batch. Safe from several threads.

        Returns:
            Probabilities, float32, (rows,).

        Raises:
            BadRequestError: the model takes no such values, although their types are right.
        """
        try:
            predicted: np.ndarray[Any, Any] = self._predict(*map(tf.constant, rows.arrays())).numpy()
        except tf.errors.InvalidArgumentError as error:
            # Of its paragraphs only the last says why; node names follow in brackets.
            said = error.message.partition("\n\t [[")[0].strip().splitlines()[-1:]
            reason = said[0][:SHOWN_CHARACTERS] if said else "no reason given"
            raise BadRequestError(f"version {self.version} cannot take these rows: {reason}") from error
        return predicted

    def warm(self, rows: Rows) -> None:
        """Predict batches of growing size, and find out how large a batch is quick enough for the event loop."""
        for size in WARM_BATCHES:
            batch = join([rows] * -(-size // len(rows))).first(size)
            took = []
            for _ in range(WARM_RUNS):
                began = time.perf_counter()
                self.predict(batch)
                took.append(time.perf_counter() - began)
            if min(took) <= INLINE_S:
                self.inline_rows = size


def load_version(store: ModelStore, version: int) -> LoadedVersion:
    """Load a version, prove it against its offline predictions, and warm it.

    Raises:
        UnknownVersionError: its folder is missing or not complete.
        VersionRefusedError: its files are not those of its manifest, it does not load, or it predicts something else than it
            did offline.
    """
    manifest = store.manifest(version)
    folder = store.version_path(version)
    try:
        found = tree_sha256(folder / "saved_model")
        _require_same_files(manifest, folder, found)
        model = tf.saved_model.load(str(folder / "saved_model"))
        loaded = LoadedVersion(manifest, model, size_mb(folder / "saved_model"))
        examples = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        rows = from_objects(loaded.layout, examples["instances"], "instances")
        expected = np.asarray(examples["predictions"], np.float32)
        predicted = loaded.predict(rows)
    except VersionRefusedError:
        raise
    except Exception as error:  # a damaged SavedModel makes TensorFlow raise almost anything
        text = str(error).strip().splitlines()
        raise VersionRefusedError(
            f"version {version} does not load: {type(error).__name__}: {text[0] if text else 'no message'}",
            version=version,
        ) from error
    _require_agreement(manifest, predicted, expected)
    loaded.example = examples["instances"][0]
    loaded.warm(rows)
    return loaded


def limit_threads(workers: int) -> None:
    """Share the cores between the serving workers; before TensorFlow runs anything.

    One thread walks the graph: handing each small operation to another costs more than it does (0.21 ms a row against 0.28).
    """
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(max(1, (os.cpu_count() or 1) // workers))


def _packed(signature: Any, layout: Layout) -> Callable[..., Any]:
    """The signature behind one matrix a type: three tensors to make for a batch instead of one a feature.

    The graph inside is the signature's own, so predictions are the same to the bit.
    """
    groups = [(names, dtype) for names, dtype in layout.groups() if names]

    def call(*matrices: Any) -> Any:
        columns: dict[str, Any] = {}
        for (names, _), matrix in zip(groups, matrices, strict=True):
            columns.update(zip(names, tf.unstack(matrix, num=len(names), axis=1), strict=True))
        return signature(**columns)[OUTPUT]

    specs = [tf.TensorSpec((None, len(names)), tf.dtypes.as_dtype(dtype)) for names, dtype in groups]
    packed: Callable[..., Any] = tf.function(call, autograph=False).get_concrete_function(*specs)
    return packed


def _require_same_files(manifest: VersionManifest, folder: Path, found: str) -> None:
    """The store may share its files with the artifacts that they were staged from, so an edit there is one here."""
    if found != manifest.saved_model_sha256:
        raise VersionRefusedError(
            f"version {manifest.version} does not load: the files in {folder / 'saved_model'} are not those that were "
            f"registered: their saved_model_sha256 is {found[:SHOWN_DIGITS]}, {manifest.saved_model_sha256[:SHOWN_DIGITS]} in "
            "the manifest",
            version=manifest.version,
            saved_model_sha256=found,
        )


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
