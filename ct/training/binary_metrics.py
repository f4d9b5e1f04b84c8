"""The gate's own metrics (`ct.gate_config.BUILT_IN`) and the count of rows as one TFMA metric.

TFMA's own each look at every row once more, at 0.1 ms a row, slice and model; one histogram holds all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from ct.gate.metrics import CLIP, DECISION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUCKETS = 10_000
"""Of equal width over [0, 1], as TFMA's own AUC uses: values that fall into one bucket count as a tie, which moves AUC by less
than 1e-4."""
AUC, ACCURACY, LOG_LOSS, BRIER, CALIBRATION = "auc", "binary_accuracy", "log_loss", "brier", "calibration"
COUNT = "example_count"
NAMES = (AUC, ACCURACY, LOG_LOSS, BRIER, CALIBRATION, COUNT)


@dataclass
class Tally:
    """What has been seen of one model on one slice."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros((2, BUCKETS), np.int64))
    """Rows, (label, bucket)."""
    predicted: float = 0.0
    """Sum of the probabilities."""
    correct: int = 0
    surprise: float = 0.0
    """Sum of -log of the probability that a row's own label was given."""
    squared: float = 0.0
    """Sum of squared distances of the probability from the label."""
    not_finite: int = 0
    """Rows without a finite probability. With any, no metric has a value: the gate must see that, not fail on it."""

    def add(self, label: int, probability: float) -> None:
        """Count one row."""
        if not math.isfinite(probability):
            self.not_finite += 1
            return
        self.counts[label, min(int(probability * BUCKETS), BUCKETS - 1)] += 1
        self.predicted += probability
        self.correct += (probability >= DECISION) == bool(label)
        self.squared += (probability - label) ** 2
        clipped = min(max(probability, CLIP), 1 - CLIP)
        self.surprise -= math.log(clipped if label else 1 - clipped)

    def values(self) -> dict[str, float]:
        """Metric -> value; NaN where a metric is undefined on these rows."""
        negative, positive = self.counts
        negatives, positives, rows = int(negative.sum()), int(positive.sum()), int(self.counts.sum())
        if self.not_finite:
            return {**dict.fromkeys(NAMES, float("nan")), COUNT: float(rows + self.not_finite)}
        # the chance that a positive row scores above a negative one, half of it for a tie
        below = np.cumsum(negative) - negative
        wins = float((positive * (below + negative / 2)).sum())
        return {
            AUC: wins / (positives * negatives) if positives and negatives else float("nan"),
            ACCURACY: self.correct / rows if rows else float("nan"),
            LOG_LOSS: self.surprise / rows if rows else float("nan"),
            BRIER: self.squared / rows if rows else float("nan"),
            CALIBRATION: self.predicted / positives if positives else float("nan"),
            COUNT: float(rows),
        }


class BinaryMetrics(metric_types.Metric):
    """TFMA metric: NAMES of each model, overall and a slice."""

    def __init__(self) -> None:
        super().__init__(_computations)


class _TallyFn(beam.CombineFn):
    """Rows of one slice to the metrics of one model."""

    def __init__(self, model_name: str, keys: Sequence[metric_types.MetricKey]) -> None:
        self._model_name = model_name
        self._keys = keys

    def create_accumulator(self) -> Tally:
        return Tally()

    def add_input(self, tally: Tally, row: metric_types.StandardMetricInputs) -> Tally:
        tally.add(int(_value(row.label, self._model_name)), float(_value(row.prediction, self._model_name)))
        return tally

    def merge_accumulators(self, tallies: Iterable[Tally]) -> Tally:
        merged = Tally()
        for tally in tallies:
            merged.counts += tally.counts
            merged.predicted += tally.predicted
            merged.correct += tally.correct
            merged.surprise += tally.surprise
            merged.squared += tally.squared
            merged.not_finite += tally.not_finite
        return merged

    def extract_output(self, tally: Tally) -> dict[metric_types.MetricKey, float]:
        values = tally.values()
        return {key: values[key.name] for key in self._keys}


def _computations(model_names: Sequence[str] | None = None, example_weighted: bool = False) -> list[Any]:  # noqa: FBT001, FBT002  TFMA passes what it finds by name
    return [_computation(name, example_weighted) for name in model_names or ("",)]


def _computation(model_name: str, example_weighted: bool) -> Any:  # noqa: FBT001  handed on
    keys = [
        metric_types.MetricKey(name=name, model_name=model_name, example_weighted=example_weighted) for name in NAMES
    ]
    return metric_types.MetricComputation(keys=keys, preprocessors=None, combiner=_TallyFn(model_name, keys))


def _value(found: Any, model_name: str) -> Any:
    """The one number in a model's part of a row: TFMA nests by model and output where there are several."""
    while isinstance(found, dict):
        found = found[model_name] if model_name in found else next(iter(found.values()))
    return found.item()


metric_types.register_metric(BinaryMetrics)
