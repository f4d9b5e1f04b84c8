"""Looks at a model: rollbacks, alerts, what a watch is, and that nothing is lost or done twice when the process is killed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from monitor_parts import KEEP, NoRegistry, log_rows, roll_out
from watching import CONFIG, Killed, Watching, flipped

from ct.contracts import Change
from ct.errors import OrchestratorError, RolloutError
from ct.monitor.decide import Action
from ct.monitor.execution import TRIES
from ct.monitor.records import Stage
from ct.monitor_config import MonitorConfig
from ct.rollout import apply, plan_rollback

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home
    from ct.rollout import ModelStore


@pytest.fixture
def watching(home: Home, store: ModelStore) -> Watching:
    """Version 1 answered 2,000 requests well, and 2 serves now."""
    found = Watching(home, store)
    found.serving.counts = {1: (2000, 2, 10)}
    assert found.look().decision.action is Action.KEEP
    return found


def test_a_version_that_fails_is_rolled_back_and_people_are_told(watching: Watching) -> None:
    """Actor and reason are in the history, the version is in quarantine, and one message has gone out."""
    watching.serving.counts[2] = (300, 90, 0)
    assert watching.look().decision.action is Action.ROLLBACK
    entry = watching.store.history()[-1]
    assert (entry.change, entry.version, entry.actor, entry.quarantined) == (Change.ROLLBACK, 1, "monitor", 2)
    assert "errors 0.3 against 0.001" in entry.reason
    assert watching.stages() == ["rollback decided", "rollback done"]
    assert len(watching.sent) == 1
    assert watching.sent[0].startswith("flights: rolled back from version 2 to 1\nversion 2 is worse than version 1")
    assert watching.look().watch.previous is None  # type: ignore[union-attr]
    assert len(watching.sent) == 1


def test_a_version_that_is_worse_on_labels_is_rolled_back(watching: Watching) -> None:
    """The previous version would have been right about the same rows."""
    chances, opposite, happened = flipped()
    watching.label(watching.pairs(opposite, chances), happened)
    decision = watching.look(MonitorConfig(signals=("quality",))).decision
    assert (decision.action, watching.store.history()[-1].version) == (Action.ROLLBACK, 1)
    assert "Brier score" in decision.reason


def test_a_version_as_good_as_the_previous_one_stays(watching: Watching) -> None:
    """However often one looks."""
    chances, _, happened = flipped()
    watching.serving.counts[2] = (2000, 3, 12)
    watching.label(watching.pairs(chances, chances), happened)
    for _ in range(5):
        assert watching.look().decision.action is Action.KEEP
    assert watching.stages() == []


def test_a_changed_world_asks_for_a_run_once_and_rolls_nothing_back(watching: Watching) -> None:
    """Both versions are wrong about everything: going back would help nobody."""
    _, opposite, happened = flipped()
    watching.label(watching.pairs(opposite, opposite), happened)
    for _ in range(3):
        assert watching.look().decision.action is Action.RETRAIN
    assert len(watching.asked) == 1
    assert watching.store.history()[-1].version == 2
    assert [message.splitlines()[0] for message in watching.sent] == ["flights: the world has changed"]


def test_an_airflow_that_is_away_is_asked_again_later(watching: Watching) -> None:
    """People are told at once; the run is asked for when Airflow is back, and not at each look before that."""
    _, opposite, happened = flipped()
    watching.label(watching.pairs(opposite, opposite), happened)
    watching.failing = [OrchestratorError("Airflow did not answer")]
    assert "retrain: Airflow did not answer" in watching.look().problems
    assert "tried again later" in watching.look(later_s=5).problems[0]
    assert watching.asked == []
    watching.look(later_s=6)
    assert len(watching.asked) == 1
    assert watching.stages() == ["retrain decided", "retrain failed", "retrain done"]
    assert len(watching.sent) == 1


def test_a_rollback_that_cannot_be_done_is_given_up_and_told(watching: Watching) -> None:
    """Such as one to a version in quarantine; after six tries a person has to look."""
    watching.serving.counts[2] = (300, 90, 0)
    watching.failing = [RolloutError("version 1 is in quarantine")] * TRIES
    for _ in range(TRIES + 2):
        watching.look(later_s=3600)
    assert watching.stages() == ["rollback decided", *["rollback failed"] * (TRIES - 1), "rollback gave up"]
    assert watching.store.history()[-1].version == 2
    assert "could not be rolled back" in watching.sent[-1]
    assert "version 1 is in quarantine" in watching.sent[-1]


@pytest.mark.parametrize("die_after", [False, True])
def test_a_monitor_that_is_killed_in_a_rollback_finishes_it(watching: Watching, die_after: bool) -> None:  # noqa: FBT001  a parameter of the test
    """Before or after the rollback itself: one rollback in the history, one message, one decision."""
    watching.serving.counts[2] = (300, 90, 0)
    watching.failing, watching.die_after = [Killed()], die_after
    with pytest.raises(Killed):
        watching.look()
    assert watching.sent == []
    watching.start()
    watching.look()
    assert [entry.change for entry in watching.store.history()].count(Change.ROLLBACK) == 1
    assert watching.stages() == ["rollback decided", "rollback done"]
    assert len(watching.sent) == 1


def test_a_killed_monitor_counts_nothing_twice(watching: Watching) -> None:
    """A fresh process goes on from the counters on disk, also over a restart of serving."""
    watching.serving.counts[2] = (1000, 1, 0)
    watching.look()
    watching.start()
    watching.look()
    watching.serving.counts = {2: (500, 0, 0)}
    watching.start()
    status = watching.look()
    assert next(signal for signal in status.signals if signal.name == "errors").rows == 1500


def test_a_version_is_not_rolled_back_twice(watching: Watching) -> None:
    """Somebody lifted the quarantine and let it serve again: the monitor says what it sees, once, and leaves it."""
    watching.serving.counts[2] = (300, 90, 0)
    watching.look()
    (watching.store.root / "quarantine.json").unlink()
    roll_out(watching.store, 2, watching.now + timedelta(seconds=1))
    watching.look()
    watching.serving.counts[2] = (900, 390, 0)
    assert watching.look().decision.action is Action.ALERT
    watching.look()
    assert watching.store.history()[-1].version == 2
    assert [message.splitlines()[0] for message in watching.sent][1:] == [
        "flights: version 2 needs somebody's attention"
    ]


def test_a_change_by_hand_begins_the_watch_anew(watching: Watching) -> None:
    """The next version is compared with what served before it, from its own first request on."""
    watching.serving.counts[2] = (1000, 1, 0)
    watching.look()
    roll_out(watching.store, 3, watching.now + timedelta(seconds=1))
    watching.serving.counts[3] = (50, 0, 0)
    status = watching.look()
    assert status.watch is not None
    assert (status.watch.new, status.watch.previous, status.watch.previous_before.requests) == (3, 2, 1000)
    assert next(signal for signal in status.signals if signal.name == "errors").rows == 50


def test_what_was_gone_back_to_is_not_compared_with_what_was_left(watching: Watching) -> None:
    """After `ct rollback` by hand there is no new version to doubt; it does as well as it did."""
    plan = plan_rollback("flights", 1, **watching.store.facts(KEEP))
    apply(plan, watching.store, NoRegistry(), actor="ada", reason="slow", clock=lambda: watching.now)
    watching.serving.counts[1] = (9000, 8, 40)
    status = watching.look()
    assert (status.watch.new, status.watch.previous) == (1, None)  # type: ignore[union-attr]
    assert status.decision.action is Action.KEEP


def test_a_rollback_that_does_not_help_is_told(watching: Watching) -> None:
    """The machine is slow for every version: whoever was rolled back from may be innocent. Nothing else is rolled back."""
    watching.serving.counts[2] = (600, 2, 400)
    assert watching.look().decision.action is Action.ROLLBACK
    watching.look()
    watching.serving.counts[1] = (2600, 4, 410)
    decision = watching.look().decision
    assert decision.action is Action.ALERT
    assert "version 1 is worse than before: latency 0.6667 against 0.005" in decision.reason
    watching.look()
    assert watching.store.history()[-1].version == 1
    assert [message.splitlines()[0] for message in watching.sent] == [
        "flights: rolled back from version 2 to 1",
        "flights: version 1 needs somebody's attention",
    ]


@pytest.mark.parametrize("retrains", [True, False])
def test_a_watch_ends_and_the_version_is_followed_against_its_past_and_its_verdict(
    watching: Watching,
    home: Home,
    retrains: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    """After the hours that pipeline.yaml gives, failures that are new are told, and so is a world that changed meanwhile."""
    config = CONFIG.model_copy(update={"retrain_on_drift": retrains})
    watching.serving.counts[2] = (300, 0, 0)
    watching.look(config)
    status = watching.look(config, later_s=7 * 86400)
    assert (status.watch.period, status.watch.previous) == (1, None)  # type: ignore[union-attr]
    watching.serving.counts[2] = (1300, 900, 0)
    decision = watching.look(config).decision
    assert decision.action is Action.ALERT
    assert "version 2 is worse than before: errors 0.9 against 0" in decision.reason
    _, opposite, happened = flipped()
    ids = log_rows(home, "flights", 2, opposite.tolist(), watching.now, "120000Z-1-1")
    watching.label(ids, happened)
    assert watching.look(config).decision.action is (Action.RETRAIN if retrains else Action.ALERT)
    watching.look(config)
    assert (len(watching.sent), len(watching.asked)) == (2, int(retrains))
    assert watching.store.history()[-1].version == 2


def test_failures_are_told_after_a_changed_world_was(watching: Watching, home: Home) -> None:
    """The alert that the world has changed is not the one that the version fails."""
    config = CONFIG.model_copy(update={"retrain_on_drift": False})
    watching.serving.counts[2] = (300, 0, 0)
    watching.look(config)
    watching.look(config, later_s=7 * 86400)
    _, opposite, happened = flipped()
    watching.label(log_rows(home, "flights", 2, opposite.tolist(), watching.now, "120000Z-1-1"), happened)
    assert watching.look(config).decision.subject == "world"
    watching.serving.counts[2] = (1300, 900, 0)
    assert watching.look(config).decision.subject == "version"
    assert len(watching.sent) == 2


def test_a_version_that_fails_is_rolled_back_to_one_that_nobody_asked(home: Home, store: ModelStore) -> None:
    """Nothing was counted of version 1, so the failures of 2 are held against none."""
    watching = Watching(home, store)
    watching.serving.counts = {2: (300, 90, 0)}
    decision = watching.look().decision
    assert (decision.action, watching.store.history()[-1].version) == (Action.ROLLBACK, 1)
    assert "errors 0.3 against 0" in decision.reason


def test_a_watch_ends_when_enough_labelled_rows_were_compared(watching: Watching) -> None:
    """Sooner than its hours."""
    chances, _, happened = flipped()
    watching.label(watching.pairs(chances, chances), happened)
    config = MonitorConfig(rows=500)
    watching.look(config)
    assert watching.look(config).watch.period == 1  # type: ignore[union-attr]


def test_serving_that_does_not_answer_is_a_problem_and_no_signal(watching: Watching) -> None:
    """The look goes on with what is known."""

    def away() -> str:
        raise OrchestratorError("serving did not answer")

    watching.serving = away  # type: ignore[assignment]
    watching.start()
    status = watching.look()
    assert status.problems == ("serving did not answer",)
    assert status.decision.action is Action.KEEP


def test_damaged_state_begins_a_new_watch_and_keeps_decisions(watching: Watching, tmp_path: Path) -> None:
    """Half a file is no reason to stop watching, and half a line none to forget the others."""
    folder = watching.home.monitor / "flights"
    (folder / "watch.json").write_text('{"watch": ')
    (folder / "decisions.jsonl").write_text('{"id": "00')
    watching.serving.counts[2] = (300, 90, 0)
    assert watching.look().decision.action is Action.ROLLBACK
    assert watching.stages() == ["rollback decided", "rollback done"]


def test_records_say_what_a_decision_rests_on(watching: Watching) -> None:
    """Every signal with its interval is in the line."""
    watching.serving.counts[2] = (300, 90, 0)
    watching.look()
    line = watching.monitor.records.decisions()[0]
    assert (line.stage, line.at) == (Stage.DECIDED, watching.now)
    assert {signal.name for signal in line.signals} >= {"errors", "latency", "shift", "quality"}
