"""Signals: what each says of planted differences, and what it says without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from monitor_parts import FakeServing

from ct.contracts import Check, CheckOutcome, Verdict
from ct.monitor.compared import Compared
from ct.monitor.counters import Counters, Counts, advance, parse
from ct.monitor.signals import DRIFT_NEW, DRIFT_PREVIOUS, at_gate, drift, errors, latency, quality, shift, signals_of
from ct.monitor_config import MonitorConfig
from tests.manifests import VERDICT

ALPHA = 0.0025
LOOKS = range(200, 4001, 200)


def counts(requests: int, failed: int = 0, slow: int = 0) -> Counts:
    """What serving counted of a version."""
    return advance(Counters(), parse(FakeServing(counts={7: (requests, failed, slow)})(), "flights", "champion")).of(7)


def verdict(metric: str, value: float) -> Verdict:
    """A verdict that measured one metric."""
    check = Check(name=metric, metric=metric, value=value, threshold=0.0, outcome=CheckOutcome.PASS)
    return VERDICT.model_copy(update={"checks": (check,)})


def test_failures_above_the_previous_versions_are_worse() -> None:
    """Five in a hundred against one in a thousand; and one in a thousand on both sides is fine."""
    assert errors(counts(1000, 50), counts(5000, 5), 0.01, ALPHA).is_worse
    same = errors(counts(5000, 5), counts(5000, 5), 0.01, ALPHA)
    assert (same.is_worse, same.is_fine) == (False, True)
    assert same.worse_by == pytest.approx(0.0)


@pytest.mark.parametrize("previous", [counts(100), Counts()])
def test_without_requests_nothing_is_said(previous: Counts) -> None:
    """The interval is not there, and neither is a verdict."""
    signal = errors(counts(0), previous, 0.01, ALPHA)
    assert (signal.state, signal.worse_by) == ("open", None)
    assert "nothing to compare" in signal.note


def test_failures_are_held_against_none_where_nothing_was_counted_before() -> None:
    """A share that is surely above the tolerance is worse, whatever another version would have done; times are not told."""
    found = errors(counts(1000, 50), Counts(), 0.01, ALPHA)
    assert (found.state, found.value, found.reference) == ("worse", 0.05, 0.0)
    assert "too few were counted before, so against none" in found.note
    assert errors(counts(1000, 10), Counts(), 0.01, ALPHA).state == "open"
    assert errors(counts(5000, 5), Counts(), 0.01, ALPHA).state == "fine"
    assert latency(counts(1000, slow=1000), Counts(), 0.1, ALPHA).worse_by is None


@pytest.mark.parametrize("few", [1, 5, 50, 99])
def test_a_smoke_test_of_the_previous_version_is_nothing_to_compare_with(few: int) -> None:
    """Its interval is so wide that nothing could be worse. Where one of the few failed, it speaks all the same."""
    assert errors(counts(1000, 100), counts(few), 0.01, ALPHA, least=100).is_worse
    assert errors(counts(1000, 100), counts(few, 1), 0.01, ALPHA, least=100).state == "open"
    assert "against none" not in errors(counts(1000, 100), counts(100), 0.01, ALPHA, least=100).note


def test_failures_at_the_tolerance_alarm_no_more_often_than_alpha_says() -> None:
    """100 versions that fail as often as is allowed, nothing to compare with, 20 looks at each."""
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        failed = np.cumsum(rng.random(4000) < 0.01)
        alarms += any(
            errors(Counts(requests=n, failed=int(failed[n - 1])), Counts(), 0.01, 0.05).is_worse for n in LOOKS
        )
    assert alarms <= 100 * 0.05


def test_slow_is_what_the_previous_version_hardly_ever_was() -> None:
    """At most one in twenty of its requests took more than a millisecond; of the new one's, half do."""
    found = latency(counts(500, slow=250), counts(5000, slow=50), 0.1, ALPHA)
    assert found.is_worse
    assert "more than 1 ms" in found.note
    assert latency(counts(5000, slow=60), counts(5000, slow=50), 0.1, ALPHA).is_fine


def test_the_limit_is_wider_when_the_previous_version_was_slow() -> None:
    """Most of its requests took longer than a millisecond, so the next edge is the limit, and it is kept."""
    found = latency(counts(500, slow=500), counts(5000, slow=4000), 0.1, ALPHA)
    assert not found.is_worse
    assert "more than 1000 ms" in found.note


def test_distributions_that_differ_on_the_same_rows_are_a_shift() -> None:
    """All predictions a fifth higher; and noise that leaves the distribution as it is, is none."""
    rng = np.random.default_rng(1)
    previous = rng.beta(2, 5, 3000)
    moved = shift(Compared(new=np.clip(previous + 0.2, 0, 1), previous=previous), 0.15, ALPHA)
    assert moved.is_worse
    assert moved.worse_by is not None
    assert moved.worse_by > 0.3
    noisy = shift(Compared(new=np.clip(previous + rng.normal(0, 0.02, 3000), 0, 1), previous=previous), 0.15, ALPHA)
    assert noisy.is_fine


def labelled(rng: np.random.Generator, rows: int, *, previous_flips: bool = False, new_flips: bool = False) -> Compared:
    """Rows of a world where both versions know the chances; one that flips says the opposite."""
    chances = rng.beta(2, 2, rows)
    happened = (rng.random(rows) < chances).astype(float)
    new, previous = (1 - chances if flips else chances for flips in (new_flips, previous_flips))
    return Compared(new=new, previous=previous, labels=happened, labelled_new=new, labelled_previous=previous)


def test_worse_predictions_of_the_same_rows_are_worse_quality() -> None:
    """A version that says the opposite, against one that is right."""
    rng = np.random.default_rng(2)
    assert quality(labelled(rng, 1000, new_flips=True), 0.005, ALPHA).is_worse
    assert not quality(labelled(rng, 1000, previous_flips=True), 0.005, ALPHA).is_worse
    assert quality(labelled(rng, 3000), 0.005, ALPHA).is_fine


def test_a_prediction_that_is_no_number_is_as_wrong_as_can_be() -> None:
    """It does not make the mean vanish."""
    found = labelled(np.random.default_rng(3), 500)
    broken = Compared(found.new, found.previous, found.labels, np.full(500, np.nan), found.labelled_previous)
    assert quality(broken, 0.005, ALPHA).value == 1.0


@pytest.mark.parametrize("metric", ["brier", "auc", "binary_accuracy"])
def test_a_world_that_turned_round_is_drift_in_each_metric(metric: str) -> None:
    """Against what the gate measured when the world was as the model knows it; and no drift while it is."""
    rng = np.random.default_rng(4)
    chances = rng.beta(2, 2, 200_000)
    happened = rng.random(200_000) < chances
    order = np.argsort(chances)
    ranks = np.empty(len(chances))
    ranks[order] = np.arange(len(chances))
    positives = happened.sum()
    measured = {
        "brier": float(np.mean((chances - happened) ** 2)),
        "auc": float((ranks[happened].mean() - (positives - 1) / 2) / (len(chances) - positives)),
        "binary_accuracy": float(np.mean((chances >= 0.5) == happened)),
    }[metric]
    good, bad = labelled(rng, 3000), labelled(rng, 1000, new_flips=True)
    assert not drift("drift", at_gate(verdict(metric, measured)), good.labelled_new, good.labels, 0.05, 0.01).is_worse
    found = drift("drift", at_gate(verdict(metric, measured)), bad.labelled_new, bad.labels, 0.05, 0.01)
    assert found.is_worse
    assert found.reference == measured
    assert metric in found.note


@pytest.mark.parametrize(("metric", "value", "low", "high"), [("brier", 0.1, 0.07, 0.16), ("auc", 0.9, 0.84, 0.93)])
def test_what_few_rows_measured_is_no_exact_number(metric: str, value: float, low: float, high: float) -> None:
    """A loss of 0.2 is behind 0.1 by more than 0.05; the gate's interval reaches to 0.16, so it may be within it."""
    judged = verdict(metric, value)
    unsure = judged.checks[0].model_copy(update={"low": low, "high": high})
    predicted, labels = losing(metric, 0.2)
    exact, found = (
        drift("drift", at_gate(VERDICT.model_copy(update={"checks": (check,)})), predicted, labels, 0.05, 0.01)
        for check in (judged.checks[0], unsure)
    )
    assert (exact.is_worse, found.is_worse) == (True, False)
    assert (found.reference, found.worse_by) == (value, pytest.approx(0.1))
    assert exact.low is not None
    assert exact.high is not None
    assert found.low == pytest.approx(exact.low - 0.06)
    assert found.high == pytest.approx(exact.high + 0.03)


def test_the_interval_of_a_difference_is_not_taken_for_the_values() -> None:
    """A comparison has the value too; the check of the value itself counts before it."""
    own = verdict("brier", 0.1).checks[0].model_copy(update={"low": 0.07, "high": 0.16})
    compared = own.model_copy(
        update={"name": "brier better than the champion's by more than 0", "difference": 0.4, "low": 0.35, "high": 0.45}
    )
    predicted, labels = losing("brier", 0.2)
    exact, alone, both = (
        drift("drift", at_gate(VERDICT.model_copy(update={"checks": checks})), predicted, labels, 0.05, 0.01)
        for checks in ((verdict("brier", 0.1).checks[0],), (compared,), (compared, own))
    )
    assert alone == exact
    assert both.low == pytest.approx(exact.low - 0.06)  # type: ignore[operator]


def losing(metric: str, loss: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Predictions and labels of 8,000 rows whose mean loss in Brier score or 1 - AUC is this."""
    labels = np.tile([0.0, 1.0], 4000)
    if metric == "brier":
        return np.abs(labels - loss**0.5), labels
    pairs = np.repeat(np.arange(4000) % 100 < 100 * loss, 2)
    return np.where(pairs, 1 - labels, labels), labels


def test_a_verdict_without_a_metric_that_can_be_followed_says_so() -> None:
    """No number is made up."""
    found = drift("drift", at_gate(verdict("log_loss", 0.5)), np.array([0.5]), np.array([1.0]), 0.05, 0.01)
    assert (found.state, found.worse_by) == ("open", None)
    assert "brier, auc, binary_accuracy" in found.note


def test_a_gap_between_slices_is_not_taken_for_the_metric() -> None:
    """The gate's fairness check has the metric's name and another number."""
    gap = Check(
        name="brier between values of origin differs by at most 0.1",
        metric="brier",
        value=0.02,
        threshold=0.1,
        outcome=CheckOutcome.PASS,
    )
    auc = Check(name="auc at least 0.6", metric="auc", value=0.7, threshold=0.6, outcome=CheckOutcome.PASS)
    judged = VERDICT.model_copy(update={"checks": (gap, auc)})
    assert drift("drift", at_gate(judged), np.array([0.2, 0.5]), np.array([0.0, 1.0]), 0.05, 0.01).reference == 0.7


def of(config: MonitorConfig, **changes: Any) -> dict[str, float]:
    """The signals of a watch and the alpha of each."""
    values = {
        "counts": Counts(),
        "previous_counts": Counts(),
        "compared": Compared(previous=np.empty(0), labelled_previous=np.empty(0)),
        "verdict": None,
        "previous_verdict": None,
    }
    return {signal.name: signal.alpha for signal in signals_of(config, **{**values, **changes})}


def test_alpha_is_split_over_the_signals_that_are_on() -> None:
    """Whatever is switched off leaves its part to the others; drift has an alpha of its own."""
    drifts = {DRIFT_NEW: 0.01, DRIFT_PREVIOUS: 0.01}
    assert of(MonitorConfig()) == {"errors": 0.0025, "latency": 0.0025, "shift": 0.0025, "quality": 0.0025, **drifts}
    assert of(MonitorConfig(signals=("errors", "quality"))) == {"errors": 0.005, "quality": 0.005, **drifts}


def test_without_a_previous_version_errors_and_drift_are_watched() -> None:
    """There is nothing to compare with that gave times or predictions; nobody's part of alpha grows for that."""
    alone = {"previous_counts": None, "compared": Compared()}
    assert of(MonitorConfig(), **alone) == {"errors": 0.0025, DRIFT_NEW: 0.01}
    assert set(of(MonitorConfig(signals=("quality",)), **alone)) == {DRIFT_NEW}
    own = of(MonitorConfig(), own_past=counts(1000), **alone)
    assert own == {"errors": 0.0025, "latency": 0.0025, DRIFT_NEW: 0.01}


def test_counts_go_on_over_a_restart_of_serving() -> None:
    """Its counters begin anew; what was counted before stays, and no look counts anything twice."""
    counters = Counters()
    for shown in ({7: (100, 10, 20)}, {7: (100, 10, 20)}, {7: (30, 3, 0)}, {7: (40, 3, 1), 6: (5, 0, 0)}):
        counters = advance(counters, parse(FakeServing(counts=shown)(), "flights", "champion"))
        counters = Counters.model_validate_json(counters.model_dump_json())
    assert counters.of(7) == Counts(requests=140, failed=13, buckets={"0.001": 119, "1.0": 140, "+Inf": 140})
    assert counters.of(6).requests == 5


def test_other_models_and_what_nobody_chose_by_chance_are_not_counted() -> None:
    """Pinned requests, a shadow's, other models', and those that reached no version."""
    lines = [
        f'ct_requests_total{{code="500",model="{model}",protocol="v2",variant="{variant}",version="{version}"}} 9.0'
        for model, variant, version in (
            ("flights", "pinned", 7),
            ("flights", "shadow", 7),
            ("taxi", "champion", 7),
            ("flights", "champion", 0),
        )
    ]
    assert parse("\n".join(lines), "flights", "champion") == {}


def test_a_canarys_counters_are_its_own() -> None:
    """The version may have served wholly before; that is not what it answers as a canary."""
    text = FakeServing(counts={7: (100, 10, 0)}, canaries={7: (20, 5, 0)})()
    assert advance(Counters(), parse(text, "flights", "canary")).of(7).failed == 5
    assert advance(Counters(), parse(text, "flights", "champion")).of(7).failed == 10
