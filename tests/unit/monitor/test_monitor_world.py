"""A world that changed, from the gate's verdict to the decision: both versions lose, and neither is to blame."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ct.gate import Scores, judge
from ct.gate_config import GateConfig
from ct.monitor.compared import Compared
from ct.monitor.counters import Counts
from ct.monitor.decide import Action, Decision, decide
from ct.monitor.signals import DRIFT_NEW, at_gate, drift, signals_of
from ct.monitor.watch import Watch
from ct.monitor_config import MonitorConfig

if TYPE_CHECKING:
    from ct.contracts import Verdict

Floats = np.ndarray[Any, np.dtype[np.float64]]

CONFIG = MonitorConfig()
WATCH = Watch(generation=4, new=7, previous=6, since=datetime(2026, 1, 5, tzinfo=timezone.utc))
WELL = Counts(requests=100_000, buckets={"0.01": 100_000, "+Inf": 100_000})
TOO_LOW = 0.25
"""By how much, in logits, a version's predictions are lower than the other's: no matter to AUC."""


def world(rows: int, *, level: float, new_too_low: float, seed: int) -> tuple[Floats, Floats, Floats]:
    """Labels, and predictions of the new version and the previous one. A level of 0 has 23 % positives, 1.2 has 47 %."""
    rng = np.random.default_rng(seed)
    logits = -1.4 + 0.9 * rng.standard_normal(rows)
    labels = rng.random(rows) < _share(logits + level)
    new, previous = (_share(logits - low + 0.15 * rng.standard_normal(rows)) for low in (new_too_low, 0.0))
    return labels.astype(np.float64), new, previous


def _share(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float64)


def judged(labels: Floats, predicted: Floats) -> Verdict:
    """As flights' own gate judges, by AUC alone."""
    scores = Scores(labels == 1, predicted, None)
    gate = GateConfig(metric="auc", threshold=0.6)
    return judge(config=gate, scores=scores, champion_version=None, span="2013-04", holdout_days=None, seed=1)


def decided(*, level: float, new_too_low: float, without_brier: int = 0, champion: int | None = None) -> Decision:
    """What is done in a world of this level about versions that were judged in one of level 0.

    Args:
        level: of the world now.
        new_too_low: by how much the new version's level is too low.
        without_brier: how many of the verdicts, the previous version's first, are from before Brier was on record.
        champion: the version that the new one's verdict measured beside it.
    """
    then = world(20_000, level=0.0, new_too_low=new_too_low, seed=1)
    verdicts = [judged(then[0], predicted) for predicted in then[1:]]
    if champion is not None:
        scores = Scores(then[0] == 1, then[1], then[2])
        gate = GateConfig(metric="auc", threshold=0.6)
        verdicts[0] = judge(
            config=gate, scores=scores, champion_version=champion, span="2013-04", holdout_days=None, seed=1
        )
    for number in range(2 - without_brier, 2):
        checks = tuple(check for check in verdicts[number].checks if check.metric != "brier")
        verdicts[number] = verdicts[number].model_copy(update={"checks": checks})
    if without_brier > 1:
        verdicts[0] = verdicts[0].model_copy(update={"checks": verdicts[0].checks[:1]})
    labels, new, previous = world(6000, level=level, new_too_low=new_too_low, seed=2)
    compared = Compared(new=new, previous=previous, labels=labels, labelled_new=new, labelled_previous=previous)
    signals = signals_of(
        CONFIG,
        counts=WELL,
        previous_counts=WELL,
        compared=compared,
        verdict=verdicts[0],
        previous_verdict=verdicts[1],
        previous=6,
    )
    found = next(signal for signal in signals if signal.name == DRIFT_NEW)
    is_in_auc = without_brier == 2 or (without_brier == 1 and champion != 6)
    assert found.note.startswith("auc" if is_in_auc else "brier")
    return decide(signals, WATCH, CONFIG)


@pytest.mark.parametrize("new_too_low", [0.0, TOO_LOW])
def test_twice_as_many_positives_are_the_worlds_and_nobody_is_rolled_back(new_too_low: float) -> None:
    """Both orderings are as good as ever, both levels are wrong; also when the new version's is the worse of the two now."""
    decision = decided(level=1.2, new_too_low=new_too_low)
    assert decision.action is Action.RETRAIN
    assert "the world has changed, versions 7 and 6 both fell behind the gate" in decision.reason


def test_an_old_verdict_without_a_brier_score_is_followed_in_auc() -> None:
    """That does not see the level, so the version that is worse on the same rows is taken for the cause."""
    assert decided(level=1.2, new_too_low=TOO_LOW, without_brier=2).action is Action.ROLLBACK


def test_the_first_verdict_with_a_brier_score_has_the_previous_versions_too() -> None:
    """It was measured as the champion, so the level is seen. Where another one was, both are followed in what both have."""
    assert decided(level=1.2, new_too_low=TOO_LOW, without_brier=1, champion=6).action is Action.RETRAIN
    assert decided(level=1.2, new_too_low=TOO_LOW, without_brier=1, champion=5).action is Action.ROLLBACK


def test_a_level_as_at_the_gate_is_no_change() -> None:
    """Neither version has lost anything."""
    assert decided(level=0.0, new_too_low=TOO_LOW).action is Action.KEEP


def test_a_loss_of_both_within_the_tolerance_excuses_nothing() -> None:
    """Seasons move both so far; on the same rows the new version is surely the worse one, and going back helps."""
    decision = decided(level=0.3, new_too_low=2 * TOO_LOW)
    assert decision.action is Action.ROLLBACK
    assert "quality" in decision.reason


def test_a_verdict_on_few_rows_alarms_nobody_in_the_same_world() -> None:
    """60 gates of 200 rows. Taken for exact, the AUC that some of them measured is off by more than the tolerance."""
    as_measured = as_exact = 0
    for seed in range(60):
        then_labels, then_new, _ = world(200, level=0.0, new_too_low=0.0, seed=1000 + seed)
        labels, new, _ = world(40_000, level=0.0, new_too_low=0.0, seed=5000 + seed)
        verdict = judged(then_labels, then_new)
        auc = verdict.checks[0]
        measured, exact = (
            drift("drift", at_gate(verdict.model_copy(update={"checks": (check,)})), new, labels, 0.05, CONFIG.alpha)
            for check in (auc, auc.model_copy(update={"low": None, "high": None}))
        )
        as_measured += measured.is_worse
        as_exact += exact.is_worse
    assert as_measured == 0
    assert as_exact > 60 * CONFIG.alpha
