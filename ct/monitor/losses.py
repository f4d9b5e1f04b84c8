"""Metrics as means of losses in [0, 1], one a row or one a pair of rows, so that they can be followed row by row.

In all of them: `predicted`, probabilities, float64, (rows,); `labels`, 0 or 1, float64, (rows,). A prediction that is no number
is as wrong as can be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

DECIDED_AT = 0.5
"""TFMA's threshold."""


def brier(predicted: Floats, labels: Floats) -> Floats:
    """Squared errors."""
    return np.where(np.isfinite(predicted), np.square(np.clip(predicted, 0.0, 1.0) - labels), 1.0)


def mistaken(predicted: Floats, labels: Floats) -> Floats:
    """1 where the decision is wrong, else 0."""
    wrong = (predicted >= DECIDED_AT) != (labels == 1)
    return np.asarray(wrong | ~np.isfinite(predicted), np.float64)


def misordered(predicted: Floats, labels: Floats) -> Floats:
    """1 - AUC as a mean of independent values: the first positive with the first negative, the second with the second, ...

    1 where the negative is ranked higher, a half where they tie.
    """
    usable = np.where(np.isfinite(predicted), predicted, np.where(labels == 1, -np.inf, np.inf))
    positives, negatives = usable[labels == 1], usable[labels == 0]
    pairs = min(len(positives), len(negatives))
    positives, negatives = positives[:pairs], negatives[:pairs]
    return np.asarray((positives < negatives) + 0.5 * (positives == negatives), np.float64)
