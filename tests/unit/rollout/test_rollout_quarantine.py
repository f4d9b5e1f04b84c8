"""A rollback that sticks: what it quarantines cannot serve again until somebody lifts it."""

from __future__ import annotations

import pytest
from rollout_parts import NOW, answering, carry_out, roll_back, roll_out, span, stage, worker

from ct.contracts import Canary, Change, CheckOutcome, QuarantineRecord, RunRequest, TriggerKind
from ct.errors import RolloutError, UnknownVersionError
from ct.home import write_atomically
from ct.rollout import (
    ModelStore,
    RefusedError,
    lift_quarantine,
    pin,
    plan_canary,
    plan_rollback,
    plan_rollout,
    plan_shadow,
    quarantine_check,
    quarantined,
    unpin,
)
from ct.rollout.steps import Quarantine

TENTH = Canary(version=3, share=0.1, key="header:ct-key")


@pytest.fixture
def rolled_back(store: ModelStore) -> ModelStore:
    """1, 2 and 3 were rolled out; 3 was rolled back from, and 2 serves."""
    for version in (1, 2, 3):
        roll_out(store, version)
    roll_back(store, quarantine=True)
    return store


def lift(store: ModelStore, version: int) -> None:
    """Somebody found that the version was not to blame."""
    lift_quarantine(store, version, by="anna", reason="it was the network", at=NOW)


def test_a_rollback_quarantines_what_served_with_reason_and_fingerprint(rolled_back: ModelStore) -> None:
    """Who, why, when, and what it was made from; the history names it too."""
    (record,) = quarantined(rolled_back)
    assert (record.version, record.reason, record.by, record.at) == (3, "worse", "on-call", NOW)
    assert record.fingerprints == rolled_back.manifest(3).fingerprints
    last = rolled_back.history()[-1]
    assert (last.change, last.version, last.quarantined) == (Change.ROLLBACK, 2, 3)


def test_a_dry_run_names_the_version_and_a_drill_does_not(store: ModelStore) -> None:
    """The plan is pure, and says which version it would quarantine."""
    roll_out(store, 1)
    roll_out(store, 2)
    plan = plan_rollback("flights", None, **store.facts(3))
    assert (plan.quarantines, Quarantine(2) in plan.steps) == (2, True)
    assert "quarantine version 2, so that" in " ".join(map(str, plan.steps))
    drill = plan_rollback("flights", None, quarantine=False, **store.facts(3))
    assert drill.quarantines is None
    assert store.quarantined() == ()


def test_what_is_in_quarantine_serves_in_no_way(rolled_back: ModelStore) -> None:
    """No rollout, no canary, no way forward by rollback; nothing is changed, and the message says what lifts it."""
    facts = rolled_back.facts(3)
    before = (rolled_back.desired(), rolled_back.history())
    message = r"Version 3 .* is in quarantine .* Version 2 is still serving\. .*--lift 3"
    for plan in (
        lambda: plan_rollout("flights", 3, **facts),
        lambda: plan_rollback("flights", 3, **facts),
        lambda: plan_canary("flights", TENTH, **facts),
    ):
        with pytest.raises(RolloutError, match=message):
            plan()
    assert (rolled_back.desired(), rolled_back.history()) == before


def test_a_version_made_from_the_same_inputs_is_held_with_it(store: ModelStore) -> None:
    """It was trained before the rollback, and waits for a person or for its rollout; a lift frees both."""
    for version, seed in ((3, 3), (10, 3), (2, 2)):
        manifest = store.manifest(version).model_copy(update={"seed": seed})
        write_atomically(store.version_path(version) / "manifest.json", manifest.model_dump_json())
    for version in (1, 2, 10, 3):
        roll_out(store, version)
    roll_back(store, to=2, quarantine=True)
    (store.version_path(1) / "manifest.json").write_text("{")
    assert (store.quarantined(), store.barred()) == ((3,), {3: 3, 10: 3})
    message = r"Version 10 .* was made from the very inputs of version 3, which is in quarantine, .*--lift 3"
    for plan in (
        lambda: plan_rollout("flights", 10, **store.facts(3)),
        lambda: plan_rollback("flights", 10, **store.facts(3)),
    ):
        with pytest.raises(RolloutError, match=message):
            plan()
    lift(store, 3)
    assert plan_rollout("flights", 10, **store.facts(3)).after.version == 10


def test_a_shadow_of_it_may_be_looked_at(rolled_back: ModelStore) -> None:
    """It answers nobody, and shows what was wrong."""
    assert plan_shadow("flights", 3, **rolled_back.facts(3)).after.shadow == 3


def test_it_does_not_stay_loaded(rolled_back: ModelStore) -> None:
    """Memory is for versions that may come back."""
    desired = rolled_back.desired()
    assert desired is not None
    assert desired.warm == (2, 1)


def test_several_steps_back_and_forward_again_after_a_lift(rolled_back: ModelStore) -> None:
    """3 -> 2 -> 1, each in quarantine as it is left; a lift lets it be rolled out, and only that one."""
    assert roll_back(rolled_back, quarantine=True).entry.version == 1
    assert rolled_back.quarantined() == (2, 3)
    with pytest.raises(RolloutError, match="no version served before version 1"):
        roll_back(rolled_back)
    lift(rolled_back, 3)
    assert roll_out(rolled_back, 3).entry.version == 3
    with pytest.raises(RolloutError, match=r"Version 2 .* is in quarantine"):
        roll_out(rolled_back, 2)
    assert roll_back(rolled_back, quarantine=True).entry.version == 1
    assert rolled_back.quarantined() == (2, 3)


def test_a_rollback_passes_over_what_is_in_quarantine(store: ModelStore) -> None:
    """1, 2 and 3 served; 2 was left by a rollback before 3 came: from 3 the way back is to 1."""
    roll_out(store, 1)
    roll_out(store, 2)
    roll_out(store, 3)
    facts = store.facts(3)
    facts["quarantined"] = (2,)
    assert plan_rollback("flights", None, **facts).after.version == 1


def test_a_rollback_to_any_kept_version(store: ModelStore) -> None:
    """Also one that never served, and the version that is left is the one in quarantine."""
    roll_out(store, 1)
    roll_out(store, 2)
    assert carry_out(plan_rollback("flights", 10, **store.facts(3)), store).entry.version == 10
    assert store.quarantined() == (2,)


def test_a_lift_stays_on_record(rolled_back: ModelStore) -> None:
    """Who lifted it and why; a second quarantine of the same version is a second record."""
    lift(rolled_back, 3)
    (record,) = rolled_back.quarantine_records()
    assert record.lifted is not None
    assert (record.lifted.by, record.lifted.reason, quarantined(rolled_back)) == ("anna", "it was the network", ())
    roll_out(rolled_back, 3)
    roll_back(rolled_back, quarantine=True)
    first, second = rolled_back.quarantine_records()
    assert first == record
    assert (second.version, second.lifted) == (3, None)


def test_what_is_not_in_quarantine_cannot_be_lifted(rolled_back: ModelStore) -> None:
    """The message says what is."""
    with pytest.raises(RolloutError, match=r"Version 2 .* is not in quarantine \(in quarantine: 3\)"):
        lift(rolled_back, 2)


def test_the_gate_refuses_a_candidate_made_from_the_same_inputs(rolled_back: ModelStore) -> None:
    """The check fails and names the version, its reason and the way out; after a lift it passes."""
    fingerprints = rolled_back.manifest(3).fingerprints
    check = quarantine_check(rolled_back, fingerprints)
    assert (check.outcome, check.blocking, check.value) == (CheckOutcome.FAIL, True, 1.0)
    assert check.name.endswith("in quarantine: version 3 (on-call: worse); see ct quarantine flights")
    assert quarantine_check(rolled_back, rolled_back.manifest(1).fingerprints).outcome is CheckOutcome.PASS
    lift(rolled_back, 3)
    assert quarantine_check(rolled_back, fingerprints).outcome is CheckOutcome.PASS


@pytest.mark.parametrize("is_withheld", [False, True])
def test_the_same_spans_learnt_from_are_the_same_inputs_whatever_was_judged_on(
    store: ModelStore, *, is_withheld: bool
) -> None:
    """Version 2 learnt from January; so would the next candidate where two spans are judged on after an inconclusive run.

    So has the twin of a refit that learnt from January too, and was withheld: it is the model that was withdrawn.
    """
    trained = store.manifest(2).verdict.model_copy(update={"trained_sha256": ("jan",), "holdout": False})
    facts = {"refit": True} if is_withheld else {"spans": (span("jan"), span("feb")), "verdict": trained}
    same = {"spans": (span("jan"), span("feb"), span("mar")), "verdict": trained, "seed": 2}
    for version, update in ((2, facts), (10, same)):
        manifest = store.manifest(version).model_copy(update=update)
        write_atomically(store.version_path(version) / "manifest.json", manifest.model_dump_json())
    roll_out(store, 1)
    roll_out(store, 2)
    roll_back(store, quarantine=True)
    assert store.barred() == {2: 2, 10: 2}
    request = RunRequest(
        run_id="r",
        pipeline="flights",
        spec_hash="s",
        trigger=TriggerKind.DATA,
        requested_at=NOW,
        spans=(span("jan"), span("feb"), span("mar")),
        new_spans=("mar",),
        seed=2,
        airflow_dag_id="flights",
        airflow_run_id="r",
        mlflow_run_id=None,
        judged_on=("feb", "mar"),
    )
    manifest = store.manifest(10).model_copy(update={"spec_hash": "s"})
    assert request.fingerprints(refit=False) == manifest.fingerprints
    assert request.fingerprints(refit=True) == manifest.model_copy(update={"refit": True}).fingerprints
    assert quarantine_check(store, store.manifest(10).fingerprints).outcome is CheckOutcome.FAIL


def test_days_that_are_held_out_of_an_only_span_make_another_model_than_the_whole_span(store: ModelStore) -> None:
    """The first version learnt a part of January, the second all of it: a rollback leaves the one and goes to the other."""
    verdict = store.manifest(1).verdict.model_copy(update={"trained_sha256": ("jan",), "holdout": True})
    whole = verdict.model_copy(update={"holdout": False})
    first = {"spans": (span("jan"),), "verdict": verdict, "seed": 1}
    second = {"spans": (span("jan"), span("feb")), "verdict": whole, "seed": 1}
    for version, update in ((1, first), (2, second)):
        manifest = store.manifest(version).model_copy(update=update)
        write_atomically(store.version_path(version) / "manifest.json", manifest.model_dump_json())
    roll_out(store, 1)
    roll_out(store, 2)
    roll_back(store, quarantine=True)
    assert store.barred() == {2: 2}
    roll_out(store, 3)
    assert roll_back(store, quarantine=True).entry.version == 1


def test_a_record_from_before_has_one_fingerprint() -> None:
    """Of the window; or none where the manifest could not be read."""
    record = {"version": 2, "generation": 3, "reason": "r", "by": "anna", "at": NOW}
    assert QuarantineRecord.model_validate({**record, "fingerprint": "f"}).fingerprints == ("f",)
    assert QuarantineRecord.model_validate({**record, "fingerprint": None}).fingerprints == ()


def test_a_rollback_that_is_reverted_quarantines_nothing(store: ModelStore) -> None:
    """Its target does not load, so the version that served serves on and must be allowed to."""
    roll_out(store, 1)
    roll_out(store, 2)
    with (
        answering(store, lambda now: worker(now.generation, 2, "damaged" if now.version == 1 else None)),
        pytest.raises(RefusedError),
    ):
        roll_back(store, quarantine=True)
    assert (store.quarantined(), store.quarantine_records()) == ((), ())


def test_a_version_with_damaged_files_is_quarantined_without_a_fingerprint(store: ModelStore) -> None:
    """Damaged files are a reason to roll back, not one to fail."""
    roll_out(store, 1)
    roll_out(store, 2)
    (store.version_path(2) / "manifest.json").write_text("{")
    roll_back(store, quarantine=True)
    (record,) = quarantined(store)
    assert (record.version, record.fingerprints) == (2, ())


def test_an_unreadable_quarantine_stops_what_could_undo_it(rolled_back: ModelStore) -> None:
    """A bad version must not slip back because a file is damaged; the message names the file."""
    (rolled_back.root / "quarantine.json").write_text("{")
    with pytest.raises(RolloutError, match=r"quarantine\.json cannot be read\. Nothing was changed"):
        roll_out(rolled_back, 10)


def test_pins_are_kept_in_order_until_they_are_taken_off(store: ModelStore) -> None:
    """Pinning twice is pinning once; an unknown version cannot be pinned."""
    assert store.pinned() == ()
    for version in (10, 2, 10):
        pin(store, version)
    assert store.pinned() == (2, 10)
    unpin(store, 2)
    unpin(store, 2)
    assert store.pinned() == (10,)
    with pytest.raises(UnknownVersionError):
        pin(store, 7)
    (store.root / "pins.json").write_text("{")
    with pytest.raises(RolloutError, match=r"pins\.json cannot be read"):
        store.pinned()


def test_staging_again_does_not_lift_a_quarantine(
    rolled_back: ModelStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The record is by version and fingerprint, not in the version's folder."""
    stage(rolled_back, tmp_path_factory.mktemp("again"), 3)
    assert rolled_back.quarantined() == (3,)
