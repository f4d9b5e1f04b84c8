"""Scored rows of two models for the gate's tests."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np

from ct.gate import Scores


def scored(
    *, rows: int = 4000, skill: float = 1.0, champion_skill: float | None = 1.0, seed: int = 1, positive: float = 0.3
) -> Scores:
    """Two models of some skill on the same rows: their errors have most in common, as two trainings of one recipe have."""
    numbers = np.random.default_rng(seed)
    labels = numbers.random(rows) < positive
    common, ours, theirs = numbers.standard_normal((3, rows))
    noise = [0.95 * common + 0.3 * own for own in (ours, theirs)]
    candidate = _probability(skill * labels + noise[0])
    champion = None if champion_skill is None else _probability(champion_skill * labels + noise[1])
    return Scores(labels, candidate, champion)


def separated(
    positives: int, negatives: int, candidate: float, champion: float, seed: int, correlation: float = 0.5
) -> Scores:
    """Two models of these true AUCs, by scores that are normal within each class; exactly so many rows of each."""
    numbers = np.random.default_rng(seed)
    labels = np.arange(positives + negatives) < positives
    common, ours, theirs = numbers.standard_normal((3, labels.size))
    scores = [
        NormalDist(sigma=2**0.5).inv_cdf(auc) * labels + correlation**0.5 * common + (1 - correlation) ** 0.5 * own
        for auc, own in ((candidate, ours), (champion, theirs))
    ]
    return Scores(labels, *scores)


def sliced(scores: Scores, **features: np.ndarray) -> Scores:
    """The same rows with slicing features."""
    return replace(scores, slices=features)


def _probability(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(1.5 - scores))
