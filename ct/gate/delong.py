"""AUC with its sampling variance in closed form: DeLong, DeLong and Clarke-Pearson (1988).

AUC is the mean, over the positive rows, of the share of negative rows that each outranks (its placement), and the same over
the negative rows the other way round; the spread of the placements gives the variance. Ranking the rows once gives all
placements in O(n log n), as Sun and Xu have it (IEEE Signal Processing Letters 21, 2014), instead of comparing every positive
row with every negative one. Placements of several models on the same rows give the covariance, and with it the variance of a
paired difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Aucs:
    """AUCs of several models on the same rows."""

    values: np.ndarray
    """float64, (models,)."""

    covariance: np.ndarray
    """Of their sampling distribution, float64, (models, models)."""


def delong(labels: np.ndarray, scores: np.ndarray) -> Aucs:
    """AUC of each model, and the covariance of all of them.

    Args:
        labels: bool, (rows,).
        scores: float64, (models, rows), finite; equal scores count half.

    Raises:
        ValueError: fewer than two rows of a class, of which there is no variance.
    """
    positives = int(labels.sum())
    negatives = labels.size - positives
    if min(positives, negatives) < 2:  # noqa: PLR2004  a variance needs two
        raise ValueError(f"{positives} positive and {negatives} negative rows: an AUC's variance needs two of each")
    placements = [_placements(labels, row) for row in scores]
    of_positive, of_negative = (np.stack(part) for part in zip(*placements, strict=True))
    covariance = np.atleast_2d(np.cov(of_positive)) / positives + np.atleast_2d(np.cov(of_negative)) / negatives
    return Aucs(of_positive.mean(axis=1), covariance)


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of negative rows that each positive row outranks, and of positive rows that outrank each negative row."""
    distinct, codes = np.unique(scores, return_inverse=True)
    codes = codes.reshape(-1)
    positive, negative = (np.bincount(codes[of], minlength=distinct.size) for of in (labels, ~labels))
    outranked = np.cumsum(negative) - negative / 2
    outranking = positive.sum() - np.cumsum(positive) + positive / 2
    return outranked[codes[labels]] / negative.sum(), outranking[codes[~labels]] / positive.sum()
