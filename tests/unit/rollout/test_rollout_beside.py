"""Canaries and shadows applied to a store, with serving workers that are threads of the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rollout_parts import FEATURES, NOW, Registry, answering, carry_out, roll_back, roll_out, stage, worker

from ct.contracts import Canary, Change, Feature, HistoryEntry
from ct.errors import RolloutError
from ct.rollout import (
    LaggingError,
    check_features,
    check_key,
    plan_canary,
    plan_end,
    plan_end_canary,
    plan_rollout,
    plan_shadow,
)
from ct.rollout.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import DesiredState, WorkerState
    from ct.rollout import ModelStore

TENTH = Canary(version=2, share=0.1, key="header:ct-key")


def obedient(desired: DesiredState) -> WorkerState:
    """A worker that takes all that is desired."""
    return worker(desired.generation, desired.version, loaded=desired.warm)


def test_the_history_remembers_canary_and_shadow(store: ModelStore) -> None:
    """Each change carries what was beside the champion after it."""
    roll_out(store, 1)
    carry_out(plan_canary("flights", TENTH, **store.facts(3)), store)
    carry_out(plan_shadow("flights", 3, **store.facts(3)), store)
    carry_out(plan_end("flights", **store.facts(3)), store)
    assert [(entry.change, entry.version, entry.canary, entry.shadow) for entry in store.history()] == [
        (Change.ROLLOUT, 1, None, None),
        (Change.CANARY, 1, TENTH, None),
        (Change.SHADOW, 1, TENTH, 3),
        (Change.END, 1, None, None),
    ]


def test_a_worse_canary_ends_alone_and_is_quarantined(store: ModelStore) -> None:
    """Champion and shadow stay; the canary's version is not kept loaded, and cannot come back."""
    roll_out(store, 2)
    roll_out(store, 1)
    carry_out(plan_shadow("flights", 3, **store.facts(3)), store)
    carry_out(plan_canary("flights", TENTH, **store.facts(3)), store)
    carry_out(plan_end_canary("flights", **store.facts(3)), store, reason="worse")
    desired, entry = store.desired(), store.history()[-1]
    assert desired is not None
    assert (desired.version, desired.canary, desired.shadow, desired.warm) == (1, None, 3, (1, 3))
    assert (entry.change, entry.version, entry.quarantined, entry.reason) == (Change.END, 1, 2, "worse")
    assert store.quarantined() == (2,)
    with pytest.raises(RolloutError, match="is in quarantine and must not serve"):
        plan_canary("flights", TENTH, **store.facts(3))
    with pytest.raises(RolloutError, match=r"There is no canary of .* to end"):
        plan_end_canary("flights", **store.facts(3))


def test_the_end_of_a_worse_canary_stays_desired_although_a_worker_is_late(store: ModelStore) -> None:
    """As a rollback does: what answers is worse than a worker that lags."""
    roll_out(store, 1)
    carry_out(plan_canary("flights", TENTH, **store.facts(3)), store)
    plan = plan_end_canary("flights", **store.facts(3))
    late = worker(1, 1, loaded=(1, 2))
    with answering(store, lambda _: late), pytest.raises(LaggingError, match="is desired and stays so"):
        carry_out(plan, store, timeout_s=0.2)
    assert store.desired() == plan.after
    assert (store.history()[-1].change, store.quarantined()) == (Change.END, (2,))


def test_a_canary_waits_until_workers_have_loaded_it(store: ModelStore) -> None:
    """A worker that reached the generation without the version in memory does not count."""
    roll_out(store, 1)
    plan = plan_canary("flights", TENTH, **store.facts(3))
    with (
        answering(store, lambda desired: worker(desired.generation, 1, loaded=(1,))),
        pytest.raises(
            RolloutError, match=r"Version 2 .* was not loaded as canary within 0 s\. Version 1 is still serving"
        ),
    ):
        carry_out(plan, store, timeout_s=0.2)
    with answering(store, obedient):
        assert carry_out(plan_canary("flights", TENTH, **store.facts(3)), store).workers == 1


def test_a_refused_rollout_restores_the_canary_and_the_shadow(store: ModelStore) -> None:
    """All is as before under a new generation, the history says so, and the alias has not moved."""
    roll_out(store, 1)
    carry_out(plan_canary("flights", TENTH, **store.facts(3)), store)
    carry_out(plan_shadow("flights", 3, **store.facts(3)), store)
    before, registry = store.desired(), Registry()
    assert before is not None

    def refuse_ten(desired: DesiredState) -> WorkerState:
        error = "version 10 does not load" if desired.version == 10 else None
        return worker(desired.generation, 1, error, loaded=before.warm)

    with answering(store, refuse_ten), pytest.raises(RolloutError, match="does not load"):
        roll_out(store, 10, registry)
    assert store.desired() == before.model_copy(update={"generation": before.generation + 2})
    last = store.history()[-1]
    assert (last.change, last.version, last.canary, last.shadow) == (Change.REVERT, 1, TENTH, 3)
    assert registry.champion is None


def test_a_refused_canary_leaves_the_champion_alone(store: ModelStore) -> None:
    """The message names the part that was refused."""
    roll_out(store, 1)
    plan = plan_canary("flights", TENTH, **store.facts(3))

    def refuse_canary(desired: DesiredState) -> WorkerState:
        return worker(desired.generation, 1, "predictions differ" if desired.canary else None, loaded=(1,))

    message = r"Version 2 .* was not taken as canary: predictions differ\. Version 1 is still serving"
    with answering(store, refuse_canary), pytest.raises(RolloutError, match=message):
        carry_out(plan, store)
    desired = store.desired()
    assert desired is not None
    assert (desired.version, desired.canary) == (1, None)


def test_a_rollback_after_a_canary_goes_to_the_champion_before(store: ModelStore) -> None:
    """3 served, 1 serves, 2 was a canary: back to 3."""
    roll_out(store, 3)
    roll_out(store, 1)
    carry_out(plan_canary("flights", TENTH, **store.facts(3)), store)
    entry = roll_back(store).entry
    assert (entry.version, entry.canary) == (3, None)


def test_a_first_version_can_be_refused_and_the_next_one_taken(store: ModelStore) -> None:
    """The worker that has refused generation 1 answers to the next rollout, which is another generation."""

    def refuse_one(desired: DesiredState) -> WorkerState:
        good = desired.version != 1
        return worker(desired.generation, desired.version if good else None, None if good else "damaged")

    with answering(store, refuse_one):
        with pytest.raises(RolloutError, match="damaged"):
            roll_out(store, 1)
        assert roll_out(store, 2).workers == 1
    assert [entry.version for entry in store.history()] == [2]


def ended_after_desiring(store: ModelStore, version: int) -> HistoryEntry:
    """What `kill -9` between the first and the second step of a rollout leaves behind."""
    plan = plan_rollout("flights", version, **store.facts(3))
    entry = HistoryEntry(
        generation=plan.after.generation,
        change=plan.change,
        version=version,
        previous=plan.before.version if plan.before else None,
        at=NOW,
        actor="killed",
        reason="r",
    )
    store.begin(Journal(before=plan.before, after=plan.after, entry=entry))
    store.desire(plan.after)
    return entry


def test_a_killed_rollout_is_in_the_history_and_rollback_goes_to_what_served_before(store: ModelStore) -> None:
    """1, 2, then 3 desired by a command that was killed: the rollback goes to 2, and all four changes are written."""
    roll_out(store, 1)
    roll_out(store, 2)
    entry = ended_after_desiring(store, 3)
    assert store.history()[-1] == entry
    assert roll_back(store).entry.version == 2
    assert [each.version for each in store.history()] == [1, 2, 3, 2]
    assert (store.root / "history.jsonl").read_text().count("\n") == 4


def test_a_command_killed_before_it_changed_anything_leaves_no_trace(store: ModelStore) -> None:
    """The journal of a change that was never desired is not history, and the next change takes it away."""
    roll_out(store, 1)
    plan = plan_rollout("flights", 2, **store.facts(3))
    noted = store.history()[-1].model_copy(update={"generation": plan.after.generation, "version": 2})
    store.begin(Journal(before=plan.before, after=plan.after, entry=noted))
    assert [entry.version for entry in store.history()] == [1]
    roll_out(store, 3)
    assert [entry.version for entry in store.history()] == [1, 3]
    assert not (store.root / "change.json").exists()


def test_a_damaged_desired_state_is_a_message(store: ModelStore) -> None:
    """It names the file and the way out."""
    roll_out(store, 1)
    (store.root / "desired.json").write_text("{}")
    with pytest.raises(RolloutError, match=r"desired\.json cannot be read .* Remove the file"):
        store.desired()


def test_a_folder_that_is_no_number_is_no_version(store: ModelStore, tmp_path: Path) -> None:
    """A copy that somebody made by hand does not stop a rollback."""
    stage(store, tmp_path, 2)
    store.version_path(2).rename(store.root / "versions" / "2.bak")
    assert store.versions() == (1, 3, 10)


def test_a_key_must_be_a_feature_of_the_model(store: ModelStore) -> None:
    """The nearest feature is named; a header may be anything."""
    champion = store.manifest(1)
    check_key("header:anything", champion)
    check_key("feature:carrier", champion)
    with pytest.raises(RolloutError, match=r"version 1, .* did you mean `--by feature:carrier`\?") as refused:
        check_key("feature:carier", champion)
    assert refused.value.facts["nearest"] == "carrier"
    with pytest.raises(RolloutError, match="its features: carrier, distance"):
        check_key("feature:zzz", champion)


def test_a_version_with_other_features_goes_beside_nothing(store: ModelStore, tmp_path: Path) -> None:
    """It could not answer the champion's requests; the message names the feature."""
    stage(store, tmp_path, 11, (*FEATURES, Feature(name="wind", dtype="float32")))
    check_features(store.manifest(1), store.manifest(2))
    with pytest.raises(RolloutError, match=r"takes other features \(wind: float32\)\. Nothing was changed"):
        check_features(store.manifest(1), store.manifest(11))
