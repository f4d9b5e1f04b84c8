"""The gate's own metrics of both models on some rows, with confidence intervals of the candidate's value and of its gain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ct.gate.bootstrap import replicate_means
from ct.gate.delong import delong
from ct.gate.measured import Estimate, Measured
from ct.gate.metrics import AUC, MEAN_METRICS, NEEDS_BOTH_CLASSES, Better, gain

if TYPE_CHECKING:
    from ct.gate.metrics import MeanMetric
    from ct.gate.scores import Scores

LEAST_OF_A_CLASS = 10
"""Rows of each class below which there is no interval, of no metric: neither DeLong's normal limit nor the bootstrap holds
for so few, and on rows of one class any model that says so of every row looks good."""
LEAST_IN_A_TAIL = 10
"""Replicates that must lie outside an interval on each side; where a correction for many slices leaves fewer, the tails are
taken from the normal distribution with the replicates' standard deviation."""

ADDED_VARIANCE = 0.5
"""Added to the variance of each model's AUC for each class, over the square of its rows.

DeLong's variance is the spread of the rows that are there. Of few rows, nearly all ranked right, the ones that make the
difference are mostly not there, and the variance is too small, or 0. So half a row is added for each way in which two models
can rank one (both right, both wrong, only one right, only the other), as Agresti and Min do with matched proportions
(Statistics in Medicine 24, 2005). Placements of 0 and 1 vary by 1/4, and 4 * 1/2 * 1/4 = 1/2; over the four ways
the two models are uncorrelated, so the covariance stays.
"""
AUC_METHOD = "DeLong, half a row added each way"


@dataclass(frozen=True)
class Resampling:
    """Of the bootstrap."""

    replicates: int
    seed: int


def measure(metric: str, rows: Scores, level: float, resampling: Resampling, *, relative: bool = False) -> Measured:
    """A metric of both models on the same rows.

    Args:
        metric: one of BUILT_IN.
        rows: what to measure it on.
        level: of the two-sided intervals.
        resampling: of the bootstrap; the same rows and seed give the same intervals.
        relative: whether the gain is a share of the champion's value.
    """
    models = [rows.candidate] if rows.champion is None else [rows.candidate, rows.champion]
    finite = [bool(np.isfinite(scores).all()) for scores in models]
    measurable = [scores for scores, known in zip(models, finite, strict=True) if known]
    if not measurable or not _defined(metric, rows.labels):
        return _placed(rows, finite, [], Estimate(None), Estimate(None))
    if metric == AUC:
        return _measure_auc(rows, finite, np.stack(measurable), level, relative=relative)
    return _measure_means(metric, rows, finite, measurable, level, resampling, relative=relative)


def least_of_each_class(distance: float, level: float) -> int:
    """Rows of a class below which the interval of a difference of AUCs is wider than this to either side."""
    return math.ceil(NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(2 * ADDED_VARIANCE) / distance)


def _measure_auc(rows: Scores, finite: list[bool], scores: np.ndarray, level: float, *, relative: bool) -> Measured:
    found = delong(rows.labels, scores)
    values = found.values.tolist()
    enough = _enough(rows.labels)
    positives = int(rows.labels.sum())
    added = ADDED_VARIANCE * (1 / positives**2 + 1 / (rows.rows - positives) ** 2)
    covariance = found.covariance + added * np.eye(len(values))
    value = _within_0_and_1(_normal(values[0], float(covariance[0, 0]), level, enough=enough))
    if len(values) == 1:
        return _placed(rows, finite, values, value, Estimate(None))
    candidate, champion = values
    if relative and champion == 0:
        return _placed(rows, finite, values, value, Estimate(None))
    # the gain's first derivatives by both values: exact for a difference, the delta method for a ratio
    slope = np.array([1.0, -candidate / champion]) / champion if relative else np.array([1.0, -1.0])
    gained = float(gain(Better.HIGHER, *found.values, relative=relative))
    variance = float(slope @ covariance @ slope)
    return _placed(rows, finite, values, value, _normal(gained, variance, level, enough=enough))


def _measure_means(
    metric: str,
    rows: Scores,
    finite: list[bool],
    scores: list[np.ndarray],
    level: float,
    resampling: Resampling,
    *,
    relative: bool,
) -> Measured:
    measured = MEAN_METRICS[metric]
    terms = np.concatenate([measured.terms(rows.labels, each) for each in scores], axis=1)
    exact = [measured.value(means) for means in np.split(terms.mean(axis=0), len(scores))]
    values = [float(value) for value in exact]
    if _enough(rows.labels):
        drawn = terms if measured.bounded else np.concatenate([terms, _not_there(measured, rows.labels, scores)])
        means = replicate_means(drawn, resampling.replicates, resampling.seed)
        replicated = [measured.value(part) for part in np.split(means, len(scores), axis=1)]
        intervals = [_percentiles(values[0], replicated[0], level, resampling)]
        if len(scores) > 1:
            gained = float(gain(measured.better, *exact, relative=relative))
            gains = gain(measured.better, *replicated, relative=relative)
            intervals.append(_percentiles(gained, gains, level, resampling))
    else:
        intervals = [Estimate(values[0])]
        if len(scores) > 1:
            intervals.append(Estimate(float(gain(measured.better, *exact, relative=relative))))
    return _placed(rows, finite, values, intervals[0], intervals[-1] if len(scores) > 1 else Estimate(None))


def _not_there(measured: MeanMetric, labels: np.ndarray, scores: list[np.ndarray]) -> np.ndarray:
    """Two rows more for the bootstrap: those whose label, were it the other, would speak most against and for the candidate.

    A resample has only losses that happened, and the largest is often one that did not yet: of a rare event to which a model
    gives next to no chance. What was not seen in n rows may still happen in 3 of n (the rule of three: Hanley and
    Lippman-Hand, JAMA 249, 1983), and one row of n is drawn up to three times in 98 of 100 resamples.

    Returns:
        float64, (2, terms).
    """
    terms = np.concatenate([measured.terms(~labels, each) for each in scores], axis=1)
    against = terms[:, 0] - terms[:, 1] if len(scores) > 1 else terms[:, 0]
    return terms[[against.argmax(), against.argmin()]]


def _placed(rows: Scores, finite: list[bool], values: list[float], value: Estimate, gained: Estimate) -> Measured:
    """What was measured, of the models that could be: `values` has one for each whose predictions are finite."""
    if rows.champion is None:
        return Measured(value, None, None, rows.rows)
    candidate = value if finite[0] else Estimate(None)
    champion = values[-1] if values and finite[1] else None
    return Measured(candidate, champion, gained if all(finite) else Estimate(None), rows.rows)


def _defined(metric: str, labels: np.ndarray) -> bool:
    positives = int(labels.sum())
    few = 2 if metric == AUC else 1
    return labels.size > 0 and (metric not in NEEDS_BOTH_CLASSES or min(positives, labels.size - positives) >= few)


def _enough(labels: np.ndarray) -> bool:
    positives = int(labels.sum())
    return min(positives, labels.size - positives) >= LEAST_OF_A_CLASS


def _within_0_and_1(estimate: Estimate) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def _normal(value: float, variance: float, level: float, *, enough: bool) -> Estimate:
    if not enough:
        return Estimate(value)
    half = NormalDist().inv_cdf((1 + level) / 2) * variance**0.5
    return Estimate(value, value - half, value + half, level, AUC_METHOD)


def _percentiles(value: float, replicates: np.ndarray, level: float, resampling: Resampling) -> Estimate:
    if not np.isfinite(value):
        return Estimate(None)
    if not np.isfinite(replicates).all():
        return Estimate(value)
    tail = (1 - level) / 2
    method = f"paired bootstrap, {resampling.replicates} replicates"
    if tail * resampling.replicates < LEAST_IN_A_TAIL:
        half = NormalDist().inv_cdf(1 - tail) * float(replicates.std(ddof=1))
        return Estimate(value, value - half, value + half, level, f"{method}, normal tails")
    low = float(np.quantile(replicates, tail, method="lower"))
    high = float(np.quantile(replicates, 1 - tail, method="higher"))
    return Estimate(value, min(low, value), max(high, value), level, method)
