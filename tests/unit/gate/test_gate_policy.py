"""What the gate decides, and that it says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gate_parts import scored, sliced

from ct.contracts import Check, CheckOutcome, Outcome, Verdict
from ct.gate import Estimate, Measured, Scores, judge, level_of
from ct.gate.intervals import AUC_METHOD
from ct.gate_config import GateConfig

BETTER, EQUAL, WORSE = 1.3, 1.0, 0.7
"""Skills beside a champion of 1.0: 4,000 rows tell the first and the last from it, and not the one between."""


def config(**values: Any) -> GateConfig:
    """A gate on AUC with a floor that all these models reach."""
    return GateConfig.model_validate({"threshold": 0.55, "replicates": 400, **values})


def decide(gate: GateConfig, scores: Scores, **facts: Any) -> Verdict:
    """The verdict on these rows."""
    version = 6 if scores.champion is not None else None
    known = {"champion_version": version, "span": "2013-04", "holdout_days": None, "seed": 7}
    return judge(config=gate, scores=scores, **{**known, **facts})


@pytest.mark.parametrize(
    ("gate", "skill", "outcome"),
    [
        ({}, BETTER, Outcome.APPROVED),
        ({}, EQUAL, Outcome.INCONCLUSIVE),
        ({}, WORSE, Outcome.REFUSED),
        ({"min_improvement": -0.02}, EQUAL, Outcome.APPROVED),
        ({"min_improvement": -0.02}, WORSE, Outcome.REFUSED),
        ({"min_improvement": 0.2}, BETTER, Outcome.REFUSED),
        ({"metric": "log_loss", "threshold": 5.0}, BETTER, Outcome.APPROVED),
        ({"metric": "log_loss", "threshold": 5.0}, WORSE, Outcome.REFUSED),
        ({"metric": "log_loss", "threshold": 0.01, "min_improvement": -9}, BETTER, Outcome.REFUSED),
        ({"relative": True, "min_improvement": 0.02}, BETTER, Outcome.APPROVED),
        ({"relative": True, "min_improvement": 0.2}, BETTER, Outcome.REFUSED),
    ],
)
def test_the_interval_against_the_margin_decides(gate: dict[str, Any], skill: float, outcome: Outcome) -> None:
    """Wholly above it passes, wholly below fails, and on both sides of it the data cannot tell; in each metric's direction."""
    assert decide(config(**gate), scored(skill=skill)).outcome is outcome


def test_a_floor_is_kept_by_the_value_itself() -> None:
    """Inclusive, and the interval is on record: a floor is no claim that needs to be proven."""
    rows = scored(champion_skill=None)
    value = decide(config(), rows).checks[0].value
    assert value is not None
    at, above = (decide(config(threshold=bound), rows) for bound in (value, value + 1e-6))
    assert (at.outcome, above.outcome) == (Outcome.APPROVED, Outcome.REFUSED)
    assert at.checks[0].low < value < at.checks[0].high


def test_without_a_champion_the_floor_alone_decides() -> None:
    """Nothing is compared, and the reason says so."""
    verdict = decide(config(), scored(champion_skill=None))
    assert [(check.baseline, check.blocking) for check in verdict.checks] == [(None, True), (None, False)]
    assert "nothing serves yet" in verdict.reason


@pytest.mark.parametrize("skill", [BETTER, EQUAL, WORSE])
def test_the_reason_names_both_values_the_version_and_the_interval(skill: float) -> None:
    """A person can act on the sentence without opening anything, whatever the outcome."""
    verdict = decide(config(), scored(skill=skill))
    check = verdict.checks[1]
    for number in (check.value, check.baseline, abs(check.difference), check.low, check.high):
        assert f"{number:.4f}" in verdict.reason
    assert "of version 6" in verdict.reason
    assert "95 % interval" in verdict.reason


def test_every_number_is_on_record() -> None:
    """Level, method, rows, hashes, alpha and seed stand beside the values."""
    verdict = decide(config(), scored(skill=BETTER), judged_sha256=["a"], trained_sha256=["b", "c"])
    check = verdict.checks[1]
    assert (check.level, check.method, check.rows) == (0.95, AUC_METHOD, 4000)
    assert (verdict.alpha, verdict.seed, verdict.rows) == (0.05, 7, 4000)
    assert (verdict.judged_sha256, verdict.trained_sha256) == (("a",), ("b", "c"))


@pytest.mark.parametrize("metric", ["auc", "brier"])
def test_equal_inputs_give_the_equal_verdict(metric: str) -> None:
    """To the last digit, bootstrap included."""
    gate = config(metric=metric, threshold=0.55)
    assert decide(gate, scored()) == decide(gate, scored())


def test_a_candidate_that_predicts_no_numbers_is_refused() -> None:
    """A diverged training is no tie."""
    rows = scored()
    broken = rows.candidate.copy()
    broken[0] = np.nan
    verdict = decide(config(), replace(rows, candidate=broken))
    assert verdict.outcome is Outcome.REFUSED
    assert "every prediction is a finite number" in verdict.reason


def test_rows_of_one_class_tell_nothing() -> None:
    """Neither approved nor refused: AUC has no value there."""
    rows = scored()
    verdict = decide(config(), replace(rows, labels=np.zeros(rows.rows, bool)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "has no value" in verdict.reason


def test_further_rules_must_all_hold() -> None:
    """Bounds and comparisons of other metrics, each on record by name."""
    rules = [
        {"metric": "calibration", "at_least": 0.2, "at_most": 5.0},
        {"metric": "brier", "min_improvement": 0.0},
    ]
    verdict = decide(config(checks=rules), scored(skill=BETTER))
    names = [check.name for check in verdict.checks]
    assert names[2:] == [
        "calibration at least 0.2",
        "calibration at most 5",
        "brier better than the champion's by more than 0",
        "brier, for the monitor",
    ]
    assert verdict.outcome is Outcome.APPROVED
    narrow = decide(config(checks=[{"metric": "calibration", "at_most": 0.01}]), scored(skill=BETTER))
    assert narrow.outcome is Outcome.REFUSED
    assert "calibration at most 0.01" in narrow.reason


@pytest.mark.parametrize("skill", [BETTER, EQUAL, WORSE])
def test_brier_is_on_record_without_a_say(skill: float) -> None:
    """Both models' and an interval of the candidate's, as wide as the bootstrap's; outcome and reason do not speak of it."""
    rows = scored(skill=skill)
    verdict = decide(config(), rows)
    (check,) = [check for check in verdict.checks if check.metric == "brier"]
    assert (check.blocking, check.threshold, check.slice, check.rows) == (False, None, "overall", 4000)
    assert check.value == pytest.approx(np.mean((rows.candidate - rows.labels) ** 2))
    assert check.baseline == pytest.approx(np.mean((rows.champion - rows.labels) ** 2))
    resampled = decide(config(metric="brier", threshold=0.9), rows).checks[0]
    assert (check.low, check.high) == (pytest.approx(resampled.low, abs=5e-4), pytest.approx(resampled.high, abs=5e-4))
    assert check.level == 0.95
    assert "brier" not in verdict.reason
    slices = sliced(rows, day=_names("ab", 4000))
    assert [check.level for check in decide(config(), slices).checks if check.slice != "overall"] == [0.975, 0.975]


@pytest.mark.parametrize(
    "gate",
    [{"metric": "brier", "threshold": 0.9}, {"checks": [{"metric": "brier", "at_most": 0.9, "min_improvement": -0.1}]}],
)
def test_brier_is_not_on_record_twice(gate: dict[str, Any]) -> None:
    """A bound that is asked for has value and interval already."""
    checks = [check for check in decide(config(**gate), scored()).checks if check.metric == "brier"]
    assert len([check for check in checks if check.difference is None]) == 1
    assert all(check.blocking for check in checks)


@pytest.mark.parametrize("broken", ["candidate", "champion"])
def test_what_cannot_be_measured_of_brier_is_not_made_up(broken: str) -> None:
    """A model that gives no numbers has no score, and few rows of a class have no interval."""
    rows = scored()
    predicted = getattr(rows, broken).copy()
    predicted[0] = np.nan
    check = decide(config(), replace(rows, **{broken: predicted}), no_comparison="NaN").checks[-1]
    assert (check.value is None, check.baseline is None) == (broken == "candidate", broken == "champion")
    few = decide(config(), replace(rows, labels=np.arange(4000) < 9)).checks[-1]
    assert (few.low, few.method) == (None, None)
    assert few.value is not None


def test_a_metric_of_tfma_is_decided_by_tfmas_interval() -> None:
    """Absolute, and relative to the champion's value."""
    measured = Measured(
        Estimate(0.44, 0.42, 0.46, 0.95, "TFMA's jackknife, 20 parts"),
        0.40,
        Estimate(0.04, 0.01, 0.07, 0.95, "TFMA's jackknife, 20 parts"),
        4000,
    )
    rules = [{"metric": "recall", "min_improvement": 0.0}]
    relative = [{"metric": "recall", "min_improvement": 0.05, "relative": True}]
    passed, open_ = (
        decide(config(checks=each), scored(skill=BETTER), others={"recall": measured}) for each in (rules, relative)
    )
    assert passed.outcome is Outcome.APPROVED
    assert open_.outcome is Outcome.INCONCLUSIVE
    assert (open_.checks[2].difference, open_.checks[2].low) == (pytest.approx(0.1), pytest.approx(0.025))
    assert "10.00 %" in open_.reason


def test_a_slice_that_is_surely_worse_blocks() -> None:
    """Although all rows together are better, and with the slice in the reason."""
    verdict = decide(config(), _with_bad_slice(rows=1000))
    assert verdict.outcome is Outcome.REFUSED
    assert "auc on carrier=UA" in verdict.reason
    by_slice = {check.slice: check for check in verdict.checks if check.slice != "overall"}
    assert by_slice["carrier=UA"].blocking
    assert not by_slice["carrier=AA"].blocking


def test_a_small_slice_is_recorded_and_has_no_say() -> None:
    """Fewer rows than `slices.min_rows`, however bad."""
    verdict = decide(config(slices={"min_rows": 1001}), _with_bad_slice(rows=1000))
    check = next(check for check in verdict.checks if check.slice == "carrier=UA")
    assert verdict.outcome is Outcome.APPROVED
    assert (check.outcome, check.blocking) == (CheckOutcome.FAIL, False)


def test_a_slice_that_cannot_be_told_has_no_say() -> None:
    """With many slices some are always uncertain; only a sure loss blocks."""
    rows = scored(skill=1.08, rows=20_000)
    verdict = decide(config(slices={"max_drop": 0.0}), sliced(rows, day=_names("abcdefghij", rows.rows)))
    assert any(check.outcome is CheckOutcome.INCONCLUSIVE for check in verdict.checks if check.slice != "overall")
    assert verdict.outcome is Outcome.APPROVED


def test_intervals_of_slices_are_corrected_for_their_number() -> None:
    """Ten large slices share alpha; a small one is not counted, and rows without a value are in none."""
    rows = scored(rows=10_100)
    names = np.array([*_names("abcdefghij", 10_000), *["tiny"] * 50, *[None] * 50], dtype=object)
    verdict = decide(config(), sliced(rows, day=names))
    slices = {check.slice: check for check in verdict.checks if check.slice != "overall"}
    assert sorted(slices) == sorted([*(f"day={name}" for name in "abcdefghij"), "day=tiny"])
    assert [check.level for check in slices.values()] == pytest.approx([1 - 0.05 / 10] * 11)


def test_a_slice_fails_by_chance_no_more_often_than_alpha_says() -> None:
    """Equal models, ten slices, 100 times: at least one slice fails in no more than alpha of them, with room for chance."""
    gate = config(slices={"max_drop": 0.0}, min_improvement=-0.5)
    failed = 0
    for seed in range(100):
        rows = scored(rows=6000, seed=seed)
        failed += decide(gate, sliced(rows, day=_names("abcdefghij", 6000))).outcome is Outcome.REFUSED
    assert failed <= 5 + 3 * (100 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(("limit", "outcome"), [(0.5, Outcome.APPROVED), (0.02, Outcome.REFUSED)])
def test_slices_may_not_differ_by_more_than_fairness_allows(limit: float, outcome: Outcome) -> None:
    """The gap between best and worst large slice, with the champion's beside it."""
    rows = scored(champion_skill=None, rows=4000)
    half = np.arange(4000) < 2000
    noise = np.random.default_rng(2).random(4000)
    unfair = sliced(
        replace(rows, candidate=np.where(half, rows.candidate, noise)), sex=np.where(half, "f", "m").astype(object)
    )
    gate = config(threshold=0.5, fairness=[{"feature": "sex", "max_gap": limit}])
    verdict = decide(gate, unfair)
    check = next(check for check in verdict.checks if "between" in check.name)
    assert verdict.outcome is outcome
    assert check.name == f"auc between values of sex differs by at most {limit:g}"
    assert check.low < check.value < check.high
    assert check.level == pytest.approx(1 - 0.05 / 2)


def test_fairness_between_one_slice_cannot_be_told() -> None:
    """What was asked for and cannot be measured is not a pass."""
    rows = sliced(scored(champion_skill=None), sex=np.full(4000, "f", dtype=object))
    verdict = decide(config(fairness=[{"feature": "sex", "max_gap": 0.1}]), rows)
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_fairness_does_not_pass_over_a_slice_that_has_no_value() -> None:
    """It may be the one that is treated worst; the check names it."""
    rows = scored(champion_skill=None)
    groups = _names("fmx", rows.rows)
    labels = rows.labels & (groups != "x")
    verdict = decide(
        config(fairness=[{"feature": "sex", "max_gap": 0.5}]), sliced(replace(rows, labels=labels), sex=groups)
    )
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "(sex=x: no value)" in verdict.reason


@pytest.mark.parametrize("metric", ["log_loss", "brier", "binary_accuracy"])
@pytest.mark.parametrize("positives", [0, 9])
def test_on_rows_of_one_class_nobody_wins(metric: str, positives: int) -> None:
    """A span whose labels have not come has no positive row, and whoever predicts none at all is right in each."""
    labels = np.arange(1000) < positives
    rows = Scores(labels, np.full(1000, 0.001), np.full(1000, 0.3))
    threshold = {"binary_accuracy": 0.5, "brier": 0.99, "log_loss": 5.0}[metric]
    verdict = decide(config(metric=metric, threshold=threshold, min_improvement=-0.1), rows)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "ten rows of each class" in verdict.reason


def test_a_slice_on_which_both_models_are_the_same_does_not_block() -> None:
    """However little `max_drop` allows: no difference is no drop, and the name says what was asked."""
    rows = scored(skill=BETTER)
    names = _names("ab", rows.rows)
    same = np.where(names == "a", rows.champion, rows.candidate)
    gate = config(metric="binary_accuracy", threshold=0.1, min_improvement=-0.5, slices={"max_drop": 0.0})
    verdict = decide(gate, sliced(replace(rows, candidate=same), carrier=names))
    check = next(check for check in verdict.checks if check.slice == "carrier=a")
    assert (check.difference, check.outcome, check.blocking) == (0.0, CheckOutcome.PASS, False)
    assert check.name == "binary_accuracy not worse than the champion's by 0"
    assert verdict.outcome is Outcome.APPROVED


@pytest.mark.parametrize(("value", "margin"), [(0.03, -0.05), (0.03, 0.05)])
def test_nothing_is_a_share_of_nothing(value: float, margin: float) -> None:
    """A champion's recall of 0 has no five per cent: neither a pass nor a refusal."""
    measured = Measured(Estimate(value), 0.0, Estimate(value, value - 0.01, value + 0.01, 0.95, "jackknife"), 4000)
    rules = [{"metric": "recall", "min_improvement": margin, "relative": True}]
    verdict = decide(config(checks=rules), scored(skill=BETTER), others={"recall": measured})
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_champion_without_any_skill_to_take_a_share_of_is_no_error() -> None:
    """Its AUC may be 0 exactly, on rows that it has backwards."""
    labels = np.arange(100) < 30
    rows = Scores(labels, np.linspace(1, 0, 100), np.linspace(0, 1, 100))
    assert decide(config(relative=True), rows).outcome is Outcome.INCONCLUSIVE


def test_what_somebody_wrote_into_a_checks_name_makes_it_no_comparison() -> None:
    """Such as a rollback's reason: an unfair comparison must not set a quarantine aside."""
    name = "not made from the inputs of a version in quarantine: version 5 (AUC far below the champion's)"
    made = Check(name=name, metric="versions in quarantine", value=1, threshold=0, outcome=CheckOutcome.FAIL)
    verdict = decide(config(), scored(skill=BETTER), further=[made], no_comparison="unfair")
    assert verdict.outcome is Outcome.REFUSED
    assert "quarantine" in verdict.reason


def test_a_model_may_not_be_larger_than_its_guard() -> None:
    """Whatever its quality, with the champion's size beside it."""
    gate = config(guards={"model_mb": 10})
    small, large = (decide(gate, scored(skill=BETTER), model_mb=size, champion_mb=9.0) for size in (10.0, 10.1))
    assert (small.outcome, large.outcome) == (Outcome.APPROVED, Outcome.REFUSED)
    assert "model_mb at most 10" in large.reason


@pytest.mark.parametrize("skill", [BETTER, WORSE])
def test_an_unfair_comparison_decides_nothing(skill: float) -> None:
    """What it would say stays on record; the verdict is inconclusive, for the reason that it is unfair."""
    verdict = decide(config(), scored(skill=skill), no_comparison="version 6 has learnt from 2013-04")
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "version 6 has learnt from 2013-04"
    assert verdict.checks[1].difference is not None


def test_a_champion_that_cannot_score_the_rows_decides_nothing() -> None:
    """No candidate is stuck without a word against a champion that does not fit the data any more."""
    verdict = decide(config(), scored(champion_skill=None), champion_version=6, no_comparison="it wants `dep_time`")
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, "it wants `dep_time`")


def test_the_floor_holds_in_an_unfair_comparison_too() -> None:
    """A candidate that is below it is refused: that has nothing to do with the champion."""
    verdict = decide(config(threshold=0.99), scored(), no_comparison="unfair")
    assert verdict.outcome is Outcome.REFUSED
    assert "auc at least 0.99" in verdict.reason


def test_checks_that_others_made_count() -> None:
    """Such as that the candidate is no quarantined version come back."""
    made = Check(name="not quarantined", metric="fingerprint", value=0, threshold=1, outcome=CheckOutcome.FAIL)
    verdict = decide(config(), scored(skill=BETTER), further=[made])
    assert verdict.outcome is Outcome.REFUSED
    assert "`not quarantined`" in verdict.reason


@pytest.mark.parametrize(
    ("difference", "told"),
    [(0.0, "4 times as many rows"), (0.005, "2 times as many rows"), (-0.011, ""), (-0.0099, "")],
    ids=["a margin away", "further", "below the margin", "next to it"],
)
def test_who_is_stuck_is_told_how_many_rows_would_tell(difference: float, told: str) -> None:
    """Where the difference keeps the margin, what is missing is rows and no better model: intervals of +-0.02, margin -0.01."""
    gain = Estimate(difference, difference - 0.02, difference + 0.02, 0.95, "by hand")
    rules = [{"metric": "recall", "min_improvement": -0.01}]
    verdict = decide(
        config(checks=rules), scored(skill=BETTER), others={"recall": Measured(Estimate(0.9), 0.9, gain, 4000)}
    )
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert (told or "too close to tell `recall not worse than the champion's by 0.01`") in verdict.reason
    assert ("times as many rows" in verdict.reason) is bool(told)


@pytest.mark.parametrize("relative", [False, True])
def test_models_that_separate_few_rows_are_told_how_many_they_need(*, relative: bool) -> None:
    """Both rank ten positive rows right: not approved, and the reason says how many rows of each class the margin takes."""
    labels = np.arange(50) < 10
    rows = Scores(labels, labels * 0.8 + 0.1, labels * 0.6 + 0.2)
    verdict = decide(config(min_improvement=-0.005, relative=relative), rows)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.endswith("it takes at least 392 rows of each class")


def test_a_difference_at_its_margin_is_told_no_number_of_rows() -> None:
    """No number of rows that anybody has would tell it from the margin."""
    rows = scored(skill=BETTER)
    compared = next(check for check in decide(config(), rows).checks if check.difference is not None)
    assert compared.difference is not None
    verdict = decide(config(min_improvement=compared.difference - 5e-4), rows)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "too close to tell" in verdict.reason
    assert "rows" not in verdict.reason.partition("too close to tell")[2]


def test_waiting_shares_alpha_between_the_looks() -> None:
    """The same rows are looked at up to three times, and three chances to pass must not be more than one."""
    assert level_of(config(inconclusive="wait", wait_spans=3)) == pytest.approx(1 - 0.05 / 3)
    assert level_of(config()) == pytest.approx(0.95)


def _names(letters: str, rows: int) -> np.ndarray:
    return np.array([letters[row % len(letters)] for row in range(rows)], dtype=object)


def _with_bad_slice(*, rows: int) -> Scores:
    """A candidate that is better overall and guesses on one carrier."""
    scores = scored(skill=2.0, rows=8000)
    bad = np.arange(8000) < rows
    guesses = np.where(bad, np.random.default_rng(5).random(8000) * 0.2, scores.candidate)
    return sliced(replace(scores, candidate=guesses), carrier=np.where(bad, "UA", "AA").astype(object))
