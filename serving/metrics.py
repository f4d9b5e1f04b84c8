"""Prometheus metrics a model and version. BentoML's `/metrics` shows them, added up over the workers.

Made once a worker, after BentoML has chosen where the workers' numbers meet: prometheus_client reads that when it is imported.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct.rollout.process import started_at

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
DIFFERENCES = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.5)
BELOW = (*map(str, DIFFERENCES), "more")
PREDICTION_EDGES = np.linspace(0, 1, 11)
"""Edges of the prediction distribution: tenths of a probability; anything outside counts in the first or last."""


class Metrics:
    """What a worker counts. Label combinations are looked up once and kept, since a look-up costs more than a count."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415  see the module's docstring

        of_version = ("model", "version", "variant")
        self._requests = Counter("ct_requests", "Requests answered.", (*of_version, "protocol", "code"))
        self._seconds = Histogram("ct_request_seconds", "From whole request to answer.", of_version, buckets=SECONDS)
        self._predictions = Counter("ct_predictions", "Predictions by tenth of a probability.", (*of_version, "tenth"))
        self._batch_rows = Histogram("ct_batch_rows", "Rows of a batch.", ("model", "version"), buckets=ROWS)
        self._batch_seconds = Histogram(
            "ct_batch_seconds", "A batch in the model.", ("model", "version"), buckets=SECONDS
        )
        self._waiting = Gauge(
            "ct_waiting_rows",
            "Rows in the queue.",
            ("model", "version"),
            multiprocess_mode="livesum",
        )
        self._shadow_rows = Counter(
            "ct_shadow_rows", "Rows a shadow predicted, by difference to the champion.", ("model", "version", "below")
        )
        self._shadow_difference = Counter(
            "ct_shadow_difference", "Summed absolute differences to the champion.", ("model", "version")
        )
        self._shadow_dropped = Counter("ct_shadow_dropped", "Rows that a shadow had no room for.", ("model", "version"))
        self._serving = Gauge("ct_serving_version", "The version that serves.", ("model",), multiprocess_mode="livemax")
        self._lost = Counter("ct_log_lost", "Records that a log had no room or no disk for.", ("log",))
        self._kept: dict[tuple[Any, ...], Any] = {}

    def answered(self, model: str, version: int, variant: str, protocol: str, code: int, seconds: float) -> None:
        """A request was answered. `version` is 0 when the request reached none."""
        self._child(self._requests, model, version, variant, protocol, code).inc()
        self._child(self._seconds, model, version, variant).observe(seconds)

    def mirrored(self, model: str, version: int, code: int, count: int) -> None:
        """A shadow predicted so many requests, or failed on them: 400 where it takes no such rows, 500 for anything else."""
        self._child(self._requests, model, version, "shadow", "shadow", code).inc(count)

    def predicted(self, model: str, version: int, variant: str, predictions: np.ndarray[Any, Any]) -> None:
        """Add predictions, float32 (rows,), to the distribution. NaN is in no tenth of it."""
        if len(predictions) == 1:
            try:
                tenth = int(min(max(predictions.item(0) * 10, 0), 9))
            except ValueError:  # NaN goes through `max` and `min`, and is no integer
                return
            self._child(self._predictions, model, version, variant, tenth).inc()
            return
        counts, _ = np.histogram(np.clip(predictions, 0, 1), PREDICTION_EDGES)
        for tenth in np.nonzero(counts)[0].tolist():
            self._child(self._predictions, model, version, variant, tenth).inc(int(counts[tenth]))

    def batches_of(self, model: str, version: int) -> Callable[[int, float, int], None]:
        """What a batcher of this version tells each batch to: rows, seconds, rows that wait."""
        labels = (model, version)
        rows, seconds, waiting = (
            self._child(metric, *labels) for metric in (self._batch_rows, self._batch_seconds, self._waiting)
        )

        def observe(count: int, took: float, left: int) -> None:
            rows.observe(count)
            seconds.observe(took)
            waiting.set(left)

        return observe

    def waits(self, model: str, version: int, count: int) -> None:
        """So many rows wait for a version now. From any thread."""
        self._child(self._waiting, model, version).set(count)

    def shadowed(self, model: str, version: int, differences: np.ndarray[Any, Any]) -> None:
        """A shadow predicted rows that the champion answered; absolute differences, (rows,)."""
        # Counted by the batch: a row at a time would hold the event loop up, which must not notice a shadow.
        counts = np.bincount(np.searchsorted(DIFFERENCES, differences, side="right"), minlength=len(BELOW))
        for below, count in zip(BELOW, counts.tolist(), strict=True):
            if count:
                self._child(self._shadow_rows, model, version, below).inc(count)
        self._child(self._shadow_difference, model, version).inc(float(differences.sum()))

    def shadow_dropped(self, model: str, version: int, count: int) -> None:
        """A shadow had no room for so many rows."""
        self._child(self._shadow_dropped, model, version).inc(count)

    def serves(self, model: str, version: int) -> None:
        """A version serves from now on."""
        self._child(self._serving, model).set(version)

    def lost(self, log: str, count: int) -> None:
        """Records of a log were lost."""
        self._child(self._lost, log).inc(count)

    def _child(self, metric: Any, *labels: Any) -> Any:
        key = (id(metric), *labels)
        child = self._kept.get(key)
        if child is None:
            child = self._kept[key] = metric.labels(*map(str, labels))
        return child


def mark_dead_workers() -> None:
    """Remove the gauges of workers that were killed, which would be shown for ever; for the start of a worker.

    prometheus_client keeps them apart, and shows the sum or the largest of all files. Two workers may do this at once::

        $PROMETHEUS_MULTIPROC_DIR/gauge_live<sum or max>_<pid>.db
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return  # numbers are in the one process's memory
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and started_at(int(pid)) is None:
            path.unlink(missing_ok=True)
