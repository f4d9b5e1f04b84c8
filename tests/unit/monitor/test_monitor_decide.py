"""Decisions: only the new one worse rolls back, both worse retrains, anything else goes on."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from ct.contracts import Canary
from ct.monitor.counters import Counts
from ct.monitor.decide import Action, decide
from ct.monitor.signals import DRIFT_NEW, DRIFT_PREVIOUS, Signal
from ct.monitor.watch import Watch
from ct.monitor_config import MonitorConfig

SINCE = datetime(2026, 1, 5, tzinfo=timezone.utc)
WATCH = Watch(generation=4, new=7, previous=6, since=SINCE)
CANARY = Watch(generation=4, canary=Canary(version=7, share=0.1, key="header:ct-key"), new=7, previous=6, since=SINCE)
ALONE = Watch(generation=4, period=1, new=7, previous=None, since=SINCE)
CONFIG = MonitorConfig()


def signal(
    name: str, worse_by: float | None, *, sure: float = 0.01, tolerance: float = 0.05, rows: int = 500
) -> Signal:
    """A signal whose interval reaches `sure` to either side."""
    if worse_by is None:
        return Signal(name=name, tolerance=tolerance, alpha=0.01)
    return Signal(
        name=name,
        value=0.5,
        reference=0.5 - worse_by,
        worse_by=worse_by,
        low=worse_by - sure,
        high=worse_by + sure,
        tolerance=tolerance,
        rows=rows,
        enough=100,
        alpha=0.01,
    )


def test_nothing_found_goes_on() -> None:
    """Signals without data, and signals that are fine, change nothing."""
    found = [signal("errors", None), signal("latency", 0.0), signal("quality", 0.0), signal(DRIFT_NEW, 0.0)]
    assert decide(found, WATCH, CONFIG).action is Action.KEEP


@pytest.mark.parametrize("name", ["errors", "latency", "shift", "quality"])
def test_a_new_version_that_alone_is_worse_is_rolled_back(name: str) -> None:
    """Each signal by itself, and the reason has its numbers."""
    decision = decide([signal(name, 0.2)], WATCH, CONFIG)
    assert decision.action is Action.ROLLBACK
    assert "version 7 is worse than version 6" in decision.reason
    assert "0.2 [0.19, 0.21], tolerance 0.05, 500 rows" in decision.reason


def test_a_difference_within_the_tolerance_goes_on() -> None:
    """The whole interval has to be beyond it."""
    assert decide([signal("quality", 0.055)], WATCH, CONFIG).action is Action.KEEP


def test_the_first_rows_decide_nothing() -> None:
    """However bad they are."""
    assert decide([signal("errors", 0.9, rows=99)], WATCH, CONFIG).action is Action.KEEP


def test_both_worse_than_at_the_gate_retrains_and_does_not_roll_back() -> None:
    """Also when the new version happens to be the worse of the two now."""
    found = [signal("quality", 0.08), signal("shift", 0.3), signal(DRIFT_NEW, 0.25), signal(DRIFT_PREVIOUS, 0.2)]
    decision = decide(found, WATCH, CONFIG)
    assert decision.action is Action.RETRAIN
    assert "the world has changed, versions 7 and 6 both fell behind the gate" in decision.reason


def test_a_loss_that_is_mostly_its_own_rolls_back_although_both_lost() -> None:
    """The previous one lost little: going back helps."""
    found = [signal("quality", 0.2), signal(DRIFT_NEW, 0.3), signal(DRIFT_PREVIOUS, 0.08)]
    assert decide(found, WATCH, CONFIG).action is Action.ROLLBACK


def test_a_rollback_waits_while_the_previous_one_seems_to_have_lost_too() -> None:
    """Before both are surely behind the gate, nothing is done about quality, and it is said why."""
    found = [signal("quality", 0.2), signal(DRIFT_NEW, 0.3), signal(DRIFT_PREVIOUS, 0.2, sure=0.3)]
    decision = decide(found, WATCH, CONFIG)
    assert decision.action is Action.KEEP
    assert "both versions are worse than at the gate" in decision.reason


def test_a_handful_of_labels_holds_up_no_rollback() -> None:
    """A shift that is sure is not excused by six labelled rows on which both happened to be wrong."""
    few = [signal(DRIFT_NEW, 0.25, sure=0.3, rows=6), signal(DRIFT_PREVIOUS, 0.2, sure=0.3, rows=6)]
    assert decide([signal("shift", 0.3), *few], WATCH, CONFIG).action is Action.ROLLBACK


def test_failures_roll_back_whatever_the_world_does() -> None:
    """No change of the world makes a version answer with errors."""
    found = [signal("errors", 0.2), signal(DRIFT_NEW, 0.25), signal(DRIFT_PREVIOUS, 0.25)]
    assert decide(found, WATCH, CONFIG).action is Action.ROLLBACK


def test_other_predictions_that_are_proven_no_worse_are_welcome() -> None:
    """A shift is a suspicion; labels decide."""
    assert decide([signal("shift", 0.3), signal("quality", 0.0)], WATCH, CONFIG).action is Action.KEEP
    assert decide([signal("shift", 0.3), signal("quality", 0.0, sure=0.4)], WATCH, CONFIG).action is Action.ROLLBACK


def test_a_version_that_serves_alone_is_retrained_when_it_falls_behind() -> None:
    """There is no predecessor to go back to any more: a first version, or one that has proven itself."""
    assert decide([signal(DRIFT_NEW, 0.25)], ALONE, CONFIG).action is Action.RETRAIN


def test_a_version_without_a_predecessor_is_never_rolled_back() -> None:
    """People are told, and whether it did better before."""
    decision = decide([signal("errors", 0.9)], ALONE, CONFIG)
    assert decision.action is Action.ALERT
    assert "there is no predecessor to go back to" in decision.reason
    known = ALONE.model_copy(update={"new_before": Counts(requests=1000)})
    assert "version 7 is worse than before" in decide([signal("errors", 0.9)], known, CONFIG).reason


def test_failures_do_not_hide_a_changed_world_once_they_are_told() -> None:
    """One look, one decision: what is urgent first, and the run is asked for at the next look."""
    found = [signal("errors", 0.9), signal(DRIFT_NEW, 0.25)]
    assert decide(found, ALONE, CONFIG).action is Action.ALERT
    assert decide(found, ALONE, CONFIG, alerted=True).action is Action.RETRAIN
    assert decide(found[:1], ALONE, CONFIG, alerted=True).action is Action.ALERT


def test_a_version_is_not_rolled_back_twice() -> None:
    """Whoever let it serve again has decided; people are told."""
    decision = decide([signal("errors", 0.2)], WATCH, CONFIG, withdrawn={7})
    assert decision.action is Action.ALERT
    assert "not do so twice" in decision.reason


def test_what_is_switched_off_is_said_and_not_done() -> None:
    """auto_rollback and retrain_on_drift."""
    careful = MonitorConfig(auto_rollback=False, retrain_on_drift=False)
    assert decide([signal("errors", 0.2)], WATCH, careful).action is Action.ALERT
    assert decide([signal(DRIFT_NEW, 0.2)], ALONE, careful).action is Action.ALERT


def test_a_canary_that_is_worse_is_ended() -> None:
    """What serves is not touched."""
    decision = decide([signal("errors", 0.2)], CANARY, CONFIG)
    assert decision.action is Action.END_CANARY
    assert decision.reason.startswith("canary version 7 is worse than version 6: errors")
    again = decide([signal("errors", 0.2)], CANARY, CONFIG, withdrawn={7})
    assert again.action is Action.ALERT
    assert "the monitor withdrew it before and somebody let it answer again" in again.reason


def test_a_changed_world_is_not_a_canarys_to_tell() -> None:
    """The watch of what serves asks for the run."""
    found = [signal("quality", 0.08), signal(DRIFT_NEW, 0.25), signal(DRIFT_PREVIOUS, 0.2)]
    assert decide(found, CANARY, CONFIG).action is Action.KEEP
