"""What a verdict has on record although no rule asks for it: the Brier score, by which the monitor follows a version."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ct.contracts import Check, CheckOutcome
from ct.gate.intervals import LEAST_OF_A_CLASS
from ct.gate.metrics import BRIER, MEAN_METRICS

if TYPE_CHECKING:
    from ct.gate.scores import Scores


def brier_check(scores: Scores, level: float) -> Check:
    """Both models' Brier scores over all rows, with an interval of the candidate's and without a say.

    The interval is the normal one of a mean: the bootstrap's is the same to three digits and takes over a minute on a million
    rows, too long for a number that decides nothing.

    Args:
        scores: the rows that were judged on.
        level: of the two-sided interval.
    """
    losses = _losses(scores.labels, scores.candidate)
    against = None if scores.champion is None else _losses(scores.labels, scores.champion)
    return Check(
        name=f"{BRIER}, for the monitor",
        metric=BRIER,
        value=None if losses is None else float(losses.mean()),
        baseline=None if against is None else float(against.mean()),
        threshold=None,
        outcome=CheckOutcome.PASS,
        blocking=False,
        rows=scores.rows,
        **_interval(scores.labels, losses, level),
    )


def _interval(labels: np.ndarray, losses: np.ndarray | None, level: float) -> dict[str, Any]:
    positives = int(labels.sum())
    if losses is None or min(positives, labels.size - positives) < LEAST_OF_A_CLASS:
        return {}
    mean, half = (
        float(losses.mean()),
        NormalDist().inv_cdf((1 + level) / 2) * float(losses.std(ddof=1) / losses.size**0.5),
    )
    return {"low": max(0.0, mean - half), "high": mean + half, "level": level, "method": "normal"}


def _losses(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray | None:
    """A squared error a row; None where there is no row or a prediction is no number."""
    if not labels.size or not np.isfinite(predicted).all():
        return None
    return MEAN_METRICS[BRIER].terms(labels, predicted)[:, 0]
