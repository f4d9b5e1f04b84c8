"""A canary is watched beside what serves: a worse one is ended and quarantined, and nothing else moves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from monitor_parts import KEEP, T0, NoRegistry, roll_out
from watching import CONFIG, Killed, Watching, flipped

from ct.contracts import Canary, Change
from ct.errors import OrchestratorError, RolloutError
from ct.monitor.decide import Action
from ct.monitor.execution import withdrawn
from ct.monitor.monitor import records_of
from ct.monitor.records import Decided, Stage
from ct.monitor_config import MonitorConfig
from ct.rollout import apply, plan_canary, plan_end, plan_rollout, plan_shadow
from ct.rollout.journal import Journal

if TYPE_CHECKING:
    from ct.home import Home
    from ct.monitor.records import Status
    from ct.rollout import ModelStore, Plan

WATCH = "000003-000"


def change(watching: Watching, plan: Plan) -> None:
    """Carry a plan out, now."""
    apply(plan, watching.store, NoRegistry(), actor="ada", reason="try it", clock=lambda: watching.now)


def begin(watching: Watching, share: float = 0.1) -> None:
    """Let version 3 answer a share, or change it."""
    canary = Canary(version=3, share=share, key="header:ct-key")
    change(watching, plan_canary("flights", canary, **watching.store.facts(KEEP)))


@pytest.fixture
def watching(home: Home, store: ModelStore) -> Watching:
    """Version 2 serves and had a bad day before version 3 became its canary."""
    found = Watching(home, store, "canary")
    found.serving.counts = {2: (2000, 1000, 10)}
    begin(found)
    assert found.look().decision.action is Action.KEEP
    return found


def test_a_canary_that_fails_is_ended_and_people_are_told(watching: Watching) -> None:
    """Its version is in quarantine, champion and shadow stay, and one message has gone out."""
    change(watching, plan_shadow("flights", 1, **watching.store.facts(KEEP)))
    watching.serving.counts = {2: (3000, 1001, 10)}
    watching.serving.canaries = {3: (300, 90, 0)}
    status = watching.look()
    assert status.decision.action is Action.END_CANARY
    entry = watching.store.history()[-1]
    assert (entry.change, entry.version, entry.canary, entry.shadow) == (Change.END, 2, None, 1)
    assert (entry.actor, entry.quarantined, watching.store.quarantined()) == ("monitor", 3, (3,))
    assert "canary version 3 is worse than version 2: errors 0.3 against 0.001" in entry.reason
    assert watching.stages() == ["end canary decided", "end canary done"]
    assert watching.look().watch is None
    assert [message.splitlines()[0] for message in watching.sent] == ["flights: the canary, version 3, was ended"]


def test_what_was_counted_before_the_canary_is_nobodys(watching: Watching) -> None:
    """The champion's bad day does not excuse the canary, and a canary as good as the champion beside it stays."""
    watching.serving.counts = {2: (4000, 1002, 20)}
    watching.serving.canaries = {3: (2000, 2, 10)}
    status = watching.look()
    rows = {signal.name: (signal.rows, signal.reference) for signal in status.signals}
    assert status.decision.action is Action.KEEP
    assert rows["errors"] == (2000, 2 / 2000)


def test_trouble_that_both_have_at_the_same_time_is_not_the_canarys(watching: Watching) -> None:
    """The database behind both is away, say."""
    watching.serving.counts = {2: (3000, 1500, 10)}
    watching.serving.canaries = {3: (300, 150, 0)}
    assert watching.look().decision.action is Action.KEEP


def test_a_canary_that_is_worse_on_labels_is_ended(watching: Watching) -> None:
    """The champion would have been right about the rows that the canary answered."""
    chances, opposite, happened = flipped()
    watching.label(watching.pairs(opposite, chances, watch=WATCH), happened)
    assert watching.look(MonitorConfig(signals=("quality",))).decision.action is Action.END_CANARY
    assert watching.store.history()[-1].quarantined == 3


def test_a_changed_world_is_left_to_the_watch_of_what_serves(watching: Watching) -> None:
    """Both are wrong about everything: no canary ends for that, and no second run is asked for."""
    _, opposite, happened = flipped()
    watching.label(watching.pairs(opposite, opposite, watch=WATCH), happened)
    assert watching.look().decision.action is Action.KEEP
    assert (watching.asked, watching.stages()) == ([], [])


def errors(status: Status) -> tuple[int, float | None, float | None]:
    """Requests of the canary that were compared, and both shares of failures."""
    return next((found.rows, found.value, found.reference) for found in status.signals if found.name == "errors")


def test_another_share_begins_another_stretch(watching: Watching) -> None:
    """Pooled over two shares, an outage that both had would look like the canary's: it answered more of those requests."""
    watching.serving.counts, watching.serving.canaries = {2: (20_000, 1018, 10)}, {3: (2000, 2, 0)}
    watching.look()
    begin(watching, 0.5)
    watching.serving.counts, watching.serving.canaries = {2: (20_000, 1018, 10)}, {3: (2000, 2, 0)}
    assert watching.look().watch.id == "000003-001"  # type: ignore[union-attr]
    watching.serving.counts, watching.serving.canaries = {2: (21_000, 1518, 10)}, {3: (3000, 502, 0)}
    status = watching.look()
    assert errors(status) == (1000, 0.5, 0.5)
    assert status.decision.action is Action.KEEP


def test_another_canary_of_the_same_version_is_another_watch(watching: Watching) -> None:
    """What it answered before, and while nobody watched, is not counted."""
    watching.serving.counts, watching.serving.canaries = {2: (2100, 1000, 10)}, {3: (60, 0, 0)}
    watching.look()
    change(watching, plan_end("flights", **watching.store.facts(KEEP)))
    watching.look()
    watching.serving.canaries = {3: (300, 200, 0)}
    begin(watching)
    assert watching.look().watch.id == "000005-000"  # type: ignore[union-attr]
    watching.serving.counts, watching.serving.canaries = {2: (2200, 1000, 10)}, {3: (305, 200, 0)}
    assert errors(watching.look()) == (5, 0.0, 0.0)


def test_no_watch_begins_while_serving_shows_no_counters(home: Home, store: ModelStore) -> None:
    """The champion's whole past would count as the same time."""
    watching = Watching(home, store, "canary")
    begin(watching)

    def away() -> str:
        raise OrchestratorError("serving did not answer")

    shown, watching.serving = watching.serving, away  # type: ignore[assignment]
    watching.start()
    status = watching.look()
    assert (status.watch, status.problems) == (None, ("serving did not answer",))
    watching.serving = shown
    watching.start()
    watching.serving.counts, watching.serving.canaries = {2: (1_000_000, 0, 0)}, {3: (100, 0, 0)}
    watching.look()
    watching.serving.counts, watching.serving.canaries = {2: (1_000_900, 450, 0)}, {3: (200, 50, 0)}
    assert errors(watching.look()) == (100, 0.5, 0.5)


def test_a_long_canary_is_watched_in_stretches(watching: Watching) -> None:
    """As long as it goes it is compared with what serves; alpha is spent once in each stretch."""
    watching.serving.canaries = {3: (300, 0, 0)}
    status = watching.look(later_s=7 * 86400 + 1)
    assert status.watch is not None
    assert (status.watch.period, status.watch.new, status.watch.previous) == (1, 3, 2)
    watching.serving.counts = {2: (3000, 1001, 10)}
    watching.serving.canaries = {3: (600, 90, 0)}
    assert watching.look().decision.action is Action.END_CANARY


def test_a_full_rollout_ends_the_watch(watching: Watching) -> None:
    """From then on version 3 is watched as what serves."""
    roll_out(watching.store, 3, watching.now + timedelta(seconds=1))
    assert (watching.look().watch, watching.store.history()[-1].version) == (None, 3)


def test_a_canary_is_not_ended_twice(watching: Watching) -> None:
    """Somebody lifted the quarantine and let it answer again: the monitor says what it sees, once, and leaves it."""
    watching.serving.counts = {2: (3000, 1001, 10)}
    watching.serving.canaries = {3: (300, 90, 0)}
    watching.look()
    (watching.store.root / "quarantine.json").unlink()
    begin(watching)
    watching.look()
    watching.serving.counts = {2: (4000, 1002, 10)}
    watching.serving.canaries = {3: (900, 390, 0)}
    assert watching.look().decision.action is Action.ALERT
    watching.look()
    assert watching.store.desired().canary is not None  # type: ignore[union-attr]
    assert watching.sent[-1].startswith("flights: version 3 needs somebody's attention")


def test_a_decision_is_not_carried_out_on_a_later_canary(watching: Watching) -> None:
    """Somebody ended it between two tries, mended what was wrong, and began anew: that canary has done nothing yet."""
    watching.serving.counts, watching.serving.canaries = {2: (3000, 1001, 10)}, {3: (300, 90, 0)}
    watching.failing = [RolloutError("another change is under way")]
    watching.look()
    change(watching, plan_end("flights", **watching.store.facts(KEEP)))
    begin(watching)
    watching.look(later_s=60)
    assert watching.store.history()[-1].change is Change.CANARY
    assert watching.stages() == ["end canary decided", "end canary failed", "end canary moot"]
    assert (watching.sent, watching.store.quarantined()) == ([], ())
    watching.serving.counts, watching.serving.canaries = {2: (4000, 1002, 10)}, {3: (600, 180, 0)}
    assert watching.look().decision.action is Action.END_CANARY, "its own failures count"


def test_a_canary_that_somebody_promoted_is_not_called_ended(watching: Watching) -> None:
    """It is watched as what serves from then on, and the monitor has withdrawn nothing."""
    watching.serving.counts, watching.serving.canaries = {2: (3000, 1001, 10)}, {3: (300, 90, 0)}
    watching.failing = [RolloutError("another change is under way")]
    watching.look()
    roll_out(watching.store, 3, watching.now)
    watching.look(later_s=60)
    assert watching.stages()[-1] == "end canary moot"
    assert (watching.sent, watching.store.quarantined()) == ([], ())
    assert withdrawn(watching.monitor.records.decisions()) == frozenset()


def test_a_change_that_may_bring_the_canary_back_is_waited_for(watching: Watching) -> None:
    """A rollout that waits for the workers takes the canary away for now; when they refuse it, the canary goes on."""
    watching.serving.counts, watching.serving.canaries = {2: (3000, 1001, 10)}, {3: (300, 90, 0)}
    store = watching.store
    watching.failing = [RolloutError("another change is under way")]
    watching.look()
    plan = plan_rollout("flights", 1, **store.facts(KEEP))
    before = store.desired()
    entry = store.history()[-1].model_copy(update={"generation": plan.after.generation, "version": 1, "canary": None})
    store.begin(Journal(before=before, after=plan.after, entry=entry.model_copy(update={"change": Change.ROLLOUT})))
    store.desire(plan.after)
    watching.look(later_s=60)
    assert watching.stages() == ["end canary decided", "end canary failed", "end canary failed"]


def test_who_brings_back_what_the_monitor_rolled_back_has_decided(home: Home, store: ModelStore) -> None:
    """As a canary too: the monitor says what it sees."""
    records_of(home, "flights").note(
        Decided(
            id="000001-000-rollback", stage=Stage.DONE, at=T0, action=Action.ROLLBACK, new=3, previous=2, reason="slow"
        )
    )
    watching = Watching(home, store, "canary")
    begin(watching)
    watching.look()
    watching.serving.counts, watching.serving.canaries = {2: (3000, 1, 10)}, {3: (300, 90, 0)}
    assert watching.look().decision.action is Action.ALERT


@pytest.mark.parametrize("die_after", [False, True])
def test_a_monitor_that_is_killed_as_it_ends_a_canary_finishes_it(watching: Watching, die_after: bool) -> None:  # noqa: FBT001  a parameter of the test
    """Also when the canary is gone by then: one end in the history, one message, one decision."""
    watching.serving.counts = {2: (3000, 1001, 10)}
    watching.serving.canaries = {3: (300, 90, 0)}
    watching.failing, watching.die_after = [Killed()], die_after
    with pytest.raises(Killed):
        watching.look()
    assert watching.sent == []
    watching.start()
    watching.look()
    assert [entry.change for entry in watching.store.history()].count(Change.END) == 1
    assert watching.stages() == ["end canary decided", "end canary done"]
    assert len(watching.sent) == 1


def test_without_a_canary_nothing_is_written(home: Home, store: ModelStore) -> None:
    """Nor is serving asked for its counters."""
    watching = Watching(home, store, "canary")
    watching.serving = None  # type: ignore[assignment]
    watching.start()
    assert watching.look(CONFIG).watch is None
    assert not watching.monitor.records.folder.exists()
