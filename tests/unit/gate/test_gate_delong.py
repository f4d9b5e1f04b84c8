"""DeLong's AUC, variance and covariance against what they are by definition, and against the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from gate_parts import scored

from ct.gate.delong import delong


def by_definition(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance from every pair of a positive and a negative row, (models,) and (models, models)."""
    positive, negative = scores[:, labels], scores[:, ~labels]
    wins = (positive[:, :, None] > negative[:, None, :]) + 0.5 * (positive[:, :, None] == negative[:, None, :])
    by_positive, by_negative = wins.mean(axis=2), wins.mean(axis=1)
    covariance = np.cov(by_positive) / positive.shape[1] + np.cov(by_negative) / negative.shape[1]
    return wins.mean(axis=(1, 2)), covariance


@pytest.mark.parametrize("digits", [None, 1])
def test_one_ranking_gives_what_comparing_every_pair_gives(digits: int | None) -> None:
    """AUCs and covariance to rounding, also where scores are rounded so that most of them are ties."""
    rows = scored(rows=400, skill=1.2)
    both = np.stack([rows.candidate, rows.champion])
    both = both if digits is None else both.round(digits)
    values, covariance = by_definition(rows.labels, both)
    found = delong(rows.labels, both)
    assert found.values == pytest.approx(values, abs=1e-12)
    assert found.covariance == pytest.approx(covariance, abs=1e-12)


def test_the_variance_of_the_difference_is_the_bootstraps() -> None:
    """Both estimate the same thing in different ways: within a tenth on 2,000 rows."""
    rows = scored(rows=2000, skill=1.1)
    both = np.stack([rows.candidate, rows.champion])
    slope = np.array([1.0, -1.0])
    exact = float(slope @ delong(rows.labels, both).covariance @ slope) ** 0.5
    numbers = np.random.default_rng(7)
    draws = numbers.integers(0, rows.rows, size=(400, rows.rows))
    differences = [slope @ delong(rows.labels[draw], both[:, draw]).values for draw in draws]
    assert exact == pytest.approx(np.std(differences), rel=0.1)


def test_one_class_has_no_variance() -> None:
    """Said, not computed as zero: zero would be certainty."""
    with pytest.raises(ValueError, match="1 positive and 2 negative rows"):
        delong(np.array([True, False, False]), np.array([[0.1, 0.2, 0.3]]))
