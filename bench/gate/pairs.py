"""Simulated pairs of models of known quality, on rows like a month of flights.

The two models' scores are normal within each class (the binormal model of ROC analysis), so that a model's true AUC is
Phi(separation / sqrt 2). They are correlated within the class, as two trainings of one recipe are. Each model's probability is
the true one given its own score, so that two models of equal AUC are equal in every metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ct.gate import Scores

ROWS = 27_000
"""About a month of flights."""
POSITIVE = 0.237
"""Share of flights that are late."""
CHAMPION_AUC = 0.70
CORRELATION = 0.95
"""Of the two scores within a class."""


@dataclass(frozen=True)
class Design:
    """What pairs look like."""

    gain: float = 0.0
    """By how much the candidate's true AUC is higher."""

    rows: int = ROWS
    champion_auc: float = CHAMPION_AUC
    correlation: float = CORRELATION

    positives: int | None = None
    """Exactly so many rows are positive; None: each is, with a chance of POSITIVE."""


def draw(design: Design, numbers: np.random.Generator) -> Scores:
    """The rows of one pair, scored by both."""
    if design.positives is None:
        share, labels = POSITIVE, numbers.random(design.rows) < POSITIVE
    else:
        share, labels = design.positives / design.rows, np.arange(design.rows) < design.positives
    common, ours, theirs = numbers.standard_normal((3, design.rows))
    shared, own = np.sqrt(design.correlation), np.sqrt(1 - design.correlation)
    return Scores(
        labels=labels,
        candidate=_probability(labels, shared * common + own * ours, design.champion_auc + design.gain, share),
        champion=_probability(labels, shared * common + own * theirs, design.champion_auc, share),
    )


def _probability(labels: np.ndarray, noise: np.ndarray, auc: float, share: float) -> np.ndarray:
    """What a model of this AUC rightly believes, float64 (rows,)."""
    separation = NormalDist().inv_cdf(auc) * np.sqrt(2)
    scores = separation * labels + noise
    log_odds = separation * scores - separation**2 / 2 + np.log(share / (1 - share))
    return 1 / (1 + np.exp(-log_odds))
