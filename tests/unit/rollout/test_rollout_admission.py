"""What may answer requests: what the gate approved or a person forced, with features that clients send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rollout_parts import FEATURES, carry_out, roll_back, roll_out, stage

from ct.contracts import Canary, Feature, Outcome
from ct.errors import RolloutError
from ct.home import write_atomically
from ct.rollout import (
    ModelStore,
    Plan,
    admit,
    incompatible_features,
    plan_canary,
    plan_rollback,
    plan_rollout,
    plan_shadow,
)

if TYPE_CHECKING:
    from pathlib import Path

REFUSED, UNSURE, WIDER, NARROWER, OTHER = 20, 21, 22, 23, 24
HOUR = Feature(name="hour", dtype="int64")
AS_TEXT = (FEATURES[0], Feature(name="distance", dtype="string"))


@pytest.fixture
def judged(store: ModelStore, tmp_path: Path) -> ModelStore:
    """Version 2 serves after 1; 20 was refused, 21 is inconclusive, 22 takes one feature more, 23 one less, 24 another type."""
    stage(store, tmp_path, REFUSED, outcome=Outcome.REFUSED)
    stage(store, tmp_path, UNSURE, outcome=Outcome.INCONCLUSIVE)
    stage(store, tmp_path, WIDER, features=(*FEATURES, HOUR))
    stage(store, tmp_path, NARROWER, features=FEATURES[:1])
    stage(store, tmp_path, OTHER, features=AS_TEXT)
    roll_out(store, 1)
    roll_out(store, 2)
    return store


def rollout_of(store: ModelStore, version: int) -> Plan:
    """A rollout, as planned now."""
    return plan_rollout("flights", version, **store.facts(3))


def canary_of(store: ModelStore, version: int) -> Plan:
    """A canary, as planned now."""
    return plan_canary("flights", Canary(version=version, share=0.1, key="header:k"), **store.facts(3))


@pytest.mark.parametrize(("version", "outcome"), [(REFUSED, "refused"), (UNSURE, "inconclusive")])
def test_what_the_gate_did_not_approve_needs_force(judged: ModelStore, version: int, outcome: str) -> None:
    """As champion and as canary; the message says the outcome, what serves, and what would let it."""
    for plan in (rollout_of(judged, version), canary_of(judged, version)):
        with pytest.raises(RolloutError, match=rf"\({outcome}\).*Version 2 is still serving.*--force --reason"):
            admit(plan, judged)
        assert admit(plan, judged, force=True)


def test_a_withheld_version_needs_force(judged: ModelStore) -> None:
    """The gate approved it, and its refit does not agree with it; that is what the message says."""
    manifest = judged.manifest(10).model_copy(update={"withheld": "its refit does not agree with it"})
    write_atomically(judged.version_path(10) / "manifest.json", manifest.model_dump_json())
    for plan in (rollout_of(judged, 10), canary_of(judged, 10)):
        with pytest.raises(RolloutError, match=r"10 of .* is withheld: its refit does not agree .*--force --reason"):
            admit(plan, judged)
        assert admit(plan, judged, force=True)
    assert not admit(plan_shadow("flights", 10, **judged.facts(3)), judged)


def test_force_marks_only_what_it_overrules(judged: ModelStore) -> None:
    """An approved version that is rolled out with force is not forced."""
    assert not admit(rollout_of(judged, 10), judged, force=True)


def test_a_forced_rollout_is_marked_for_ever(judged: ModelStore) -> None:
    """In the history, also after others have come."""
    carry_out(rollout_of(judged, REFUSED), judged, forced=True)
    roll_out(judged, 10)
    assert [(entry.version, entry.forced) for entry in judged.history()] == [
        (1, False),
        (2, False),
        (REFUSED, True),
        (10, False),
    ]


def test_a_shadow_of_a_refused_version_needs_no_force(judged: ModelStore) -> None:
    """It answers nobody."""
    assert not admit(plan_shadow("flights", REFUSED, **judged.facts(3)), judged)


def test_a_rollback_is_no_way_around_the_gate(judged: ModelStore) -> None:
    """There is none to what never served, approved or not; of what has served, by force too, it asks nothing."""
    for version in (REFUSED, 10):
        with pytest.raises(
            RolloutError, match=r"has never served, so there is no way back.*Version 2 is still serving"
        ):
            admit(plan_rollback("flights", version, **judged.facts(3)), judged)
    carry_out(rollout_of(judged, REFUSED), judged, forced=True)
    roll_out(judged, 10)
    assert not admit(plan_rollback("flights", REFUSED, **judged.facts(3)), judged)


def test_what_was_judged_against_another_version_needs_force(judged: ModelStore) -> None:
    """A rollback came while it waited, in a run or for a person: it has never met what serves now."""
    roll_back(judged)
    for plan in (rollout_of(judged, 10), canary_of(judged, 10)):
        message = (
            r"was judged against version 2, and not against version 1.*`ct trigger flights --force`.*--force --reason"
        )
        with pytest.raises(RolloutError, match=message):
            admit(plan, judged)
        assert admit(plan, judged, force=True)
    assert not admit(rollout_of(judged, 2), judged), "it has served: the way forward again"


def test_what_never_met_a_champion_needs_force_beside_one(judged: ModelStore, tmp_path: Path) -> None:
    """Its gate had nothing to compare it with."""
    stage(judged, tmp_path, OTHER, judged_against=None)
    with pytest.raises(RolloutError, match="was judged when nothing served, and not against version 2"):
        admit(rollout_of(judged, OTHER), judged)


def test_a_rollback_reads_no_manifest(judged: ModelStore) -> None:
    """It must work when files are damaged."""
    (judged.version_path(1) / "manifest.json").write_text("{")
    admit(plan_rollback("flights", None, **judged.facts(3)), judged)
    assert roll_back(judged).entry.version == 1


@pytest.mark.parametrize(
    ("version", "found"),
    [(WIDER, r"hour \(int64\) is new and required"), (OTHER, "distance is string, not float32")],
    ids=["a new feature", "another type"],
)
def test_features_that_clients_do_not_send_are_refused(judged: ModelStore, version: int, found: str) -> None:
    """Unless it is said that they do."""
    plan = rollout_of(judged, version)
    with pytest.raises(RolloutError, match=rf"{found}\. Nothing was changed.*--allow-incompatible") as refused:
        admit(plan, judged)
    assert len(refused.value.facts["incompatible"]) == 1
    assert not admit(plan, judged, allow_incompatible=True)


def test_a_feature_less_is_incompatible(judged: ModelStore) -> None:
    """Serving refuses requests with an unknown feature, so clients that go on to send it would get 400."""
    (found,) = incompatible_features(judged.manifest(2), judged.manifest(NARROWER))
    assert "is gone" in found
    with pytest.raises(RolloutError, match="is gone"):
        admit(rollout_of(judged, NARROWER), judged)


def test_a_first_version_has_nothing_to_be_compatible_with(store: ModelStore, tmp_path: Path) -> None:
    """Nobody sends anything yet."""
    stage(store, tmp_path, WIDER, features=(*FEATURES, HOUR))
    assert not admit(rollout_of(store, WIDER), store)
