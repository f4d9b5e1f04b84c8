"""The metrics that the gate measures itself, and what 'better' means for each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

AUC, BRIER = "auc", "brier"
DECISION = 0.5
"""From this probability on, a row counts as predicted positive."""
CLIP = 1e-7
"""Log loss takes probabilities from here to 1 - CLIP, as Keras does: one certain and wrong row must not be infinitely bad."""


class Better(str, Enum):
    """Which of two values of a metric is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEARER_TO_1 = "nearer to 1"


@dataclass(frozen=True)
class MeanMetric:
    """A metric that follows from means over the rows, so that the bootstrap needs no second look at a row."""

    better: Better
    terms: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(labels (rows,), probabilities (rows,)) -> what is averaged, float64 (rows, terms)."""

    value: Callable[[np.ndarray], np.ndarray]
    """Means (..., terms) -> value (...)."""

    bounded: bool = True
    """Whether a row's term is at most 1, so that few rows that are not there cannot matter much."""


def _correct(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    correct: np.ndarray = ((scores >= DECISION) == labels).astype(np.float64)[:, np.newaxis]
    return correct


def _surprise(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    surprise: np.ndarray = -np.log(np.where(labels, clipped, 1 - clipped))[:, np.newaxis]
    return surprise


def _squared(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    squared: np.ndarray = np.square(scores - labels)[:, np.newaxis]
    return squared


def _predicted_and_found(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, labels.astype(np.float64)], axis=1)


def _only(means: np.ndarray) -> np.ndarray:
    only: np.ndarray = means[..., 0]
    return only


def _ratio(means: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: np.ndarray = means[..., 0] / means[..., 1]
    return ratio


MEAN_METRICS = {
    "binary_accuracy": MeanMetric(Better.HIGHER, _correct, _only),
    "log_loss": MeanMetric(Better.LOWER, _surprise, _only, bounded=False),
    BRIER: MeanMetric(Better.LOWER, _squared, _only),
    "calibration": MeanMetric(Better.NEARER_TO_1, _predicted_and_found, _ratio),
}
"""Name -> metric. Calibration is the mean predicted probability over the share of positive rows."""
NEEDS_BOTH_CLASSES = (AUC, "calibration")


def gain(better: Better, candidate: np.ndarray, champion: np.ndarray, *, relative: bool) -> np.ndarray:
    """By how much the candidate is better, positive whatever the metric's direction.

    Of calibration it is by how much |log ratio| is smaller: predicting twice the share and half of it are as far off.

    Args:
        better: the metric's direction.
        candidate: values, any shape.
        champion: values, the same shape.
        relative: as a share of the champion's value.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if better is Better.NEARER_TO_1:
            gained: np.ndarray = np.abs(np.log(champion)) - np.abs(np.log(candidate))
        else:
            gained = candidate - champion if better is Better.HIGHER else champion - candidate
        relative_gain: np.ndarray = gained / np.abs(champion) if relative else gained
    return relative_gain
