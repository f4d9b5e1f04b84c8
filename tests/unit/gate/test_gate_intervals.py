"""Intervals of the gate's own metrics: directions, coverage, and what is undefined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_parts import scored, separated

from ct.gate import Estimate, Scores
from ct.gate.bootstrap import DRAWS_AT_ONCE, replicate_means
from ct.gate.delong import delong
from ct.gate.intervals import Resampling, measure
from ct.gate_config import BUILT_IN

RESAMPLING = Resampling(replicates=400, seed=3)


@pytest.mark.parametrize("metric", BUILT_IN)
def test_positive_is_better_whatever_the_metrics_direction(metric: str) -> None:
    """A model that knows more gains on each metric, and the same model against itself gains exactly nothing.

    Of a mean the same model is sure of that; of AUC it is not, because rows on which none differ are no proof that none would.
    """
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
    assert same.value == 0
    assert (same.low, same.high) == (0.0, 0.0) if metric != "auc" else same.low == -same.high < 0


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


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(
    ("positives", "negatives", "champion", "margin"),
    [(10, 1000, 0.99, 0.01), (12, 300, 0.99, 0.02), (30, 2000, 0.995, 0.005)],
)
def test_few_rows_of_a_class_and_very_good_models_pass_no_more_often_than_alpha(
    positives: int, negatives: int, champion: float, margin: float, *, relative: bool
) -> None:
    """Candidates that are worse by the margin exactly: of 300 at most 5 % pass, and three standard errors.

    By DeLong's variance alone 13 to 19 % of them would: the few rows that a model misorders are mostly not in the data.
    """
    pairs = 300
    passed = 0
    for seed in range(pairs):
        rows = separated(positives, negatives, champion - margin, champion, seed)
        gain = gain_of("auc", rows, 0.95, RESAMPLING, relative=relative)
        assert gain.low is not None
        passed += gain.low > -margin / (champion if relative else 1)
    assert passed / pairs <= 0.05 + 3 * (0.05 * 0.95 / pairs) ** 0.5


def test_enough_rows_tell_even_of_very_good_models() -> None:
    """A thousand positive rows are enough for a margin of 0.005 at an AUC of 0.995: nobody is stuck for ever."""
    passed = 0
    for seed in range(30):
        gain = gain_of("auc", separated(1000, 4000, 0.995, 0.995, seed), 0.95, RESAMPLING)
        assert gain.low is not None
        passed += gain.low > -0.005
    assert passed >= 27


def test_rows_that_both_models_separate_are_no_certainty() -> None:
    """Ten positive rows, all ranked right by both: the difference is 0, its interval is not, and values stay in 0 to 1."""
    labels = np.arange(50) < 10
    found = measure("auc", Scores(labels, labels * 0.8 + 0.1, labels * 0.6 + 0.2), 0.95, RESAMPLING)
    assert found.gain is not None
    assert found.gain.low is not None
    assert (found.gain.value, found.value.value, found.value.high) == (0, 1, 1)
    assert found.gain.low < -0.1
    assert found.value.low is not None
    assert 0.7 < found.value.low < 0.9
    backwards = value_of("auc", labels, ~labels * 0.8, 0.95, RESAMPLING)
    assert (backwards.value, backwards.low) == (0, 0)


def test_a_month_of_rows_has_delongs_own_interval() -> None:
    """What is added for the rows that are not there widens it by a hundredth at most."""
    rows = separated(6400, 20_600, 0.7, 0.7, seed=1, correlation=0.95)
    gain = gain_of("auc", rows, 0.95, RESAMPLING)
    covariance = delong(rows.labels, np.stack([rows.candidate, rows.champion])).covariance
    half = 1.96 * float(np.array([1, -1]) @ covariance @ np.array([1, -1])) ** 0.5
    assert gain.low is not None
    assert half < gain.value - gain.low < 1.01 * half


def test_losses_that_happen_not_to_be_in_the_rows_are_reckoned_with() -> None:
    """A candidate gives an event of one in a thousand next to no chance, on half of the rows, and is worse.

    In a third of the samples the event did not happen and the rows alone call it better. At most 5 % pass, and three standard
    errors.
    """
    pairs = 80
    passed = 0
    for seed in range(pairs):
        numbers = np.random.default_rng(seed)
        rare = numbers.random(2000) < 0.5
        rates = np.where(rare, 0.001, 0.02)
        rows = Scores(numbers.random(2000) < rates, np.where(rare, 1e-5, rates), rates)
        gain = gain_of("log_loss", rows, 0.95, RESAMPLING)
        assert gain.low is not None
        passed += gain.low > 0
    assert passed / pairs <= 0.05 + 3 * (0.05 * 0.95 / pairs) ** 0.5


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_an_interval_holds_its_value(metric: str, alpha: float) -> None:
    """Also at a low level and where a model is nearly always nearly right, so that the rows added are far from all others."""
    labels = np.arange(1000) < 20
    sure = np.where(labels, 0.999, 0.001)
    for rows in (Scores(labels, sure, np.full(1000, 0.02)), Scores(labels, np.full(1000, 0.02), sure)):
        found = measure(metric, rows, 1 - alpha, RESAMPLING)
        for estimate in (found.value, found.gain):
            assert estimate is not None
            assert estimate.value is not None
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high


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
