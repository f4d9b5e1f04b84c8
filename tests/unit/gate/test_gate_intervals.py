"""Intervals of the gate's own metrics: directions, coverage, and what is undefined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_parts import scored

from ct.gate import Estimate, Scores
from ct.gate.bootstrap import DRAWS_AT_ONCE, replicate_means
from ct.gate.intervals import Resampling, measure
from ct.gate_config import BUILT_IN

RESAMPLING = Resampling(replicates=400, seed=3)


@pytest.mark.parametrize("metric", BUILT_IN)
def test_positive_is_better_whatever_the_metrics_direction(metric: str) -> None:
    """A model that knows more gains on each metric, and the same model against itself gains exactly nothing."""
    rows = scored(rows=8000)
    better = replace(rows, candidate=np.where(rows.labels, 0.9, 0.1) * 0.5 + rows.candidate * 0.5)
    if (
        metric == "calibration"
    ):  # the others' probabilities are not calibrated: halfway to the share of positives is better
        better = replace(rows, candidate=rows.candidate * (0.5 + 0.5 * rows.labels.mean() / rows.candidate.mean()))
    gain = gain_of(metric, better, 0.95, RESAMPLING)
    assert gain.low is not None
    assert gain.low > 0
    same = gain_of(metric, replace(rows, candidate=rows.champion), 0.95, RESAMPLING)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_values_are_what_the_definitions_say() -> None:
    """On four rows, by hand."""
    labels, scores = np.array([True, True, False, False] * 5), np.array([0.9, 0.4, 0.6, 0.1] * 5)
    values = {metric: value_of(metric, labels, scores, 0.95, RESAMPLING).value for metric in BUILT_IN}
    assert values["auc"] == pytest.approx(3 / 4)
    assert values["binary_accuracy"] == pytest.approx(2 / 4)
    assert values["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert values["log_loss"] == pytest.approx(-(2 * np.log(0.9) + 2 * np.log(0.4)) / 4)
    assert values["calibration"] == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier"])
def test_intervals_cover_no_difference_as_often_as_they_say(metric: str) -> None:
    """Of 200 pairs of equal models, 90 % intervals hold 0 in about 180: within three standard errors."""
    pairs = 200
    held = 0
    for seed in range(pairs):
        gain = gain_of(metric, scored(rows=1000, seed=seed), 0.9, Resampling(400, seed))
        assert gain.low is not None
        assert gain.high is not None
        held += gain.low <= 0 <= gain.high
    assert held / pairs == pytest.approx(0.9, abs=3 * (0.9 * 0.1 / pairs) ** 0.5)


def test_a_relative_gain_is_a_share_of_the_champions_value() -> None:
    """Value and both ends, by both kinds of interval."""
    rows = scored(rows=4000, skill=1.3)
    for metric in ("auc", "brier"):
        absolute, relative = (gain_of(metric, rows, 0.95, RESAMPLING, relative=each) for each in (False, True))
        champion = value_of(metric, rows.labels, rows.champion, 0.95, RESAMPLING).value
        assert relative.value == pytest.approx(absolute.value / champion)
        assert relative.low == pytest.approx(absolute.low / champion, rel=0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    """And another one a slightly different one: it is a bootstrap."""
    rows = scored(rows=1000)
    first, again, other = (gain_of("brier", rows, 0.95, Resampling(400, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low


def test_draws_in_several_pieces_are_the_draws_in_one() -> None:
    """Memory is bounded, and the means are those of whole resamples: right on average, spread as the standard error says."""
    rows = DRAWS_AT_ONCE // 30
    terms = np.random.default_rng(1).random((rows, 1))
    means = replicate_means(terms, 100, seed=5)
    assert means.shape == (100, 1)
    assert means.mean() == pytest.approx(terms.mean(), abs=4 * terms.std() / rows**0.5 / 10)
    assert means.std() == pytest.approx(terms.std() / rows**0.5, rel=0.3)


def test_few_replicates_for_a_far_tail_take_the_normal_one() -> None:
    """A level that leaves less than ten replicates outside is not read off the outermost few."""
    estimate = value_of("brier", *_rows(2000), 0.9999, RESAMPLING)
    assert estimate.method is not None
    assert estimate.method.endswith("normal tails")
    assert estimate.value - estimate.low == pytest.approx(estimate.high - estimate.value)


@pytest.mark.parametrize("metric", ["auc", "calibration"])
def test_rows_of_one_class_have_no_value(metric: str) -> None:
    """Undefined is not zero."""
    assert value_of(metric, np.zeros(50, bool), np.linspace(0, 1, 50), 0.95, RESAMPLING).value is None


def test_a_few_rows_of_a_class_have_a_value_and_no_interval() -> None:
    """Nine positive rows are too few for either kind of interval to mean what it says."""
    labels = np.arange(500) < 9
    scores = np.random.default_rng(1).random(500)
    estimate = value_of("auc", labels, scores, 0.95, RESAMPLING)
    assert estimate.value is not None
    assert estimate.low is None


def test_predictions_that_are_no_numbers_have_no_value() -> None:
    """Of either model."""
    rows = scored(rows=100)
    broken = rows.champion.copy()
    broken[3] = np.nan
    assert gain_of("auc", replace(rows, champion=broken), 0.95, RESAMPLING).value is None
    assert value_of("brier", rows.labels, broken, 0.95, RESAMPLING).value is None


def _rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    rows = scored(rows=count)
    return rows.labels, rows.candidate


def gain_of(metric: str, rows: Scores, level: float, resampling: Resampling, *, relative: bool = False) -> Estimate:
    """By how much the candidate is better."""
    gain = measure(metric, rows, level, resampling, relative=relative).gain
    assert gain is not None
    return gain


def value_of(metric: str, labels: np.ndarray, scores: np.ndarray, level: float, resampling: Resampling) -> Estimate:
    """The metric of one model."""
    return measure(metric, Scores(labels, scores, None), level, resampling).value
