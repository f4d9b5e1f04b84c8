"""The one-pass metric against scikit-learn, and its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from ct.training.binary_metrics import ACCURACY, AUC, CALIBRATION, COUNT, Tally, _TallyFn


def tally_of(labels: np.ndarray, scores: np.ndarray) -> Tally:
    """All rows in one tally."""
    tally = Tally()
    for label, score in zip(labels, scores, strict=True):
        tally.add(int(label), float(score))
    return tally


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that partly agree; every 50th score is the same, so that there are ties."""
    numbers = np.random.default_rng(1)
    labels = (numbers.random(5000) < 0.3).astype(int)
    scores = np.clip(0.3 + 0.2 * labels + numbers.normal(0, 0.2, 5000), 0, 1)
    scores[::50] = 0.25
    return labels, scores


def test_values_are_scikit_learns(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """AUC to the width of a bucket, the others exactly."""
    labels, scores = rows
    values = tally_of(labels, scores).values()
    assert values[AUC] == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)
    assert values[ACCURACY] == pytest.approx(accuracy_score(labels, scores >= 0.5))
    assert values[CALIBRATION] == pytest.approx(scores.sum() / labels.sum())
    assert values[COUNT] == 5000


def test_parts_add_up(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Beam may split the rows as it likes."""
    labels, scores = rows
    parts = [tally_of(labels[part], scores[part]) for part in (slice(0, 10), slice(10, 4000), slice(4000, 5000))]
    assert _TallyFn("", ()).merge_accumulators(parts).values() == pytest.approx(tally_of(labels, scores).values())


def test_auc_of_one_class_is_undefined() -> None:
    """Rows of one class say nothing about ranking, which is not the same as an AUC of 0."""
    values = tally_of(np.zeros(3), np.array([0.0, 0.4, 1.0])).values()
    assert math.isnan(values[AUC])
    assert math.isnan(values[CALIBRATION])
    assert values[ACCURACY] == pytest.approx(2 / 3)
