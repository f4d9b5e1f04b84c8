"""The registry follows what serves: at once where it answers, and wholly once it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rollout_parts import NOW, Registry, answering, carry_out, roll_back, roll_out, worker

from ct.contracts import Canary
from ct.rollout import (
    ModelStore,
    RefusedError,
    lift_quarantine,
    overruling,
    plan_canary,
    plan_end_canary,
    plan_rollback,
    plan_rollout,
    plan_shadow,
    resume,
)
from ct.rollout.registry import tags_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ct.contracts import DesiredState, WorkerState
    from ct.rollout import Plan, Resumed

TENTH = Canary(version=3, share=0.1, key="header:ct-key")
WITHDRAWN = {"ct.quarantine": "since 2026-01-02 by on-call: worse"}
FORCED = {"ct.forced_by": "on-call", "ct.forced_reason": "urgent"}


@pytest.fixture
def two(store: ModelStore) -> ModelStore:
    """Version 2 serves after 1."""
    roll_out(store, 1)
    roll_out(store, 2)
    return store


def resumed(store: ModelStore, registry: Registry) -> Resumed | None:
    """What the monitor does every half minute."""
    return resume(store, registry, clock=lambda: NOW)


def test_a_quarantine_and_its_lift_are_tags(two: ModelStore) -> None:
    """With who, when and why."""
    registry = Registry()
    roll_back(two, registry=registry, quarantine=True)
    assert (registry.champion, registry.tags) == (1, {2: WITHDRAWN})
    lift_quarantine(two, 2, by="anna", reason="it was the network", at=NOW)
    assert resumed(two, registry) is not None
    assert registry.tags == {2: {"ct.quarantine": "lifted 2026-01-02 by anna: it was the network"}}
    assert resumed(two, Registry(down=True)) is None


def test_a_forced_canary_is_a_tag_and_leaves_the_alias(two: ModelStore) -> None:
    """It answers some, and is the version that was forced."""
    registry = Registry()
    plan = plan_canary("flights", TENTH, **two.facts(3))
    carry_out(plan, two, registry, reason="urgent", forced=True)
    assert (registry.champion, registry.tags) == (None, {3: FORCED})


@pytest.mark.parametrize("meanwhile", [None, 3])
def test_a_registry_that_was_down_is_told_everything_once_it_is_back(two: ModelStore, meanwhile: int | None) -> None:
    """Whatever was rolled out meanwhile; that change tells its own part only, and waits for no other's."""
    plan = plan_rollout("flights", 3, **two.facts(3))
    carry_out(plan, two, Registry(down=True), reason="urgent", forced=True)
    told = roll_back(two, registry=Registry(down=True), quarantine=True)
    assert told.registry_problem == "no registry for flights"
    registry = Registry()
    if meanwhile:
        roll_out(two, 1, registry)
        assert (registry.champion, registry.tags) == (1, {})
    found = resumed(two, registry)
    assert found is not None
    assert (found.message, found.registry_problem) == ("", None)
    assert (registry.champion, registry.tags) == (1 if meanwhile else 2, {3: {**FORCED, **WITHDRAWN}})
    assert resumed(two, Registry(down=True)) is None


def _roll_back_over_http(store: ModelStore) -> None:
    roll_back(store, registry=Registry(down=True), quarantine=True)


def test_a_rollback_that_answers_while_everything_is_told_has_the_last_word(two: ModelStore) -> None:
    """What was read before it is written after it, and so everything is told once more."""
    roll_back(two, quarantine=True)
    _lift(two)
    roll_out(two, 2, Registry(down=True))
    said: dict[int, dict[str, str]] = {}

    class Fast(Registry):
        def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
            said[version] = dict(tags)

    class Slow(Registry):
        acted = False

        def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
            if not self.acted:
                self.acted = True
                roll_back(two, registry=Fast(), quarantine=True)
            said[version] = dict(tags)

    assert resumed(two, Slow()) is not None
    assert (said, two.registry_behind) == ({2: WITHDRAWN}, None)


def _lift(store: ModelStore) -> None:
    lift_quarantine(store, 2, by="anna", reason="it was the network", at=NOW)


@pytest.mark.parametrize("act", [_roll_back_over_http, _lift], ids=["rollback", "lift"])
def test_what_changes_while_everything_is_told_is_told_too(two: ModelStore, act: Callable[[ModelStore], None]) -> None:
    """By whoever is at it: the last word is what history and quarantine say in the end."""
    roll_back(two, registry=Registry(down=True), quarantine=True)
    roll_out(two, 3, Registry(down=True))

    class Slow(Registry):
        acted = False

        def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
            if not self.acted:
                self.acted = True
                act(two)
            super().tag_version(name, version, tags)

    registry = Slow()
    assert resumed(two, registry) is not None
    newest = two.remembered()
    assert newest is not None
    assert (registry.champion, registry.tags) == (newest.version, tags_of(two))
    assert two.registry_behind is None


def test_a_change_that_may_yet_be_reverted_is_not_told(two: ModelStore) -> None:
    """A quarantine that never comes leaves no tag, also where everything is told while the workers are waited for."""
    meanwhile = []

    def damaged(desired: DesiredState) -> WorkerState:
        meanwhile.append((two.quarantined(), tags_of(two)))
        return worker(desired.generation, 2, "damaged" if desired.version == 1 else None)

    with answering(two, damaged), pytest.raises(RefusedError):
        roll_back(two, quarantine=True)
    assert ((2,), {}) in meanwhile
    assert two.quarantined() == ()


def test_a_canary_that_is_refused_leaves_nothing_to_tell(two: ModelStore) -> None:
    """Nothing was told of it, and what was told before it is right."""
    with (
        answering(two, lambda now: worker(now.generation, 2, "damaged" if now.canary else None)),
        pytest.raises(RefusedError),
    ):
        carry_out(plan_canary("flights", TENTH, **two.facts(3)), two, Registry())
    assert two.registry_behind is None


def test_a_version_that_somebody_deleted_in_the_registry_is_no_reason_to_try_for_ever(two: ModelStore) -> None:
    """That the alias cannot name it is said once; all else is told."""
    carry_out(plan_rollout("flights", 3, **two.facts(3)), two, Registry(down=True), reason="urgent", forced=True)
    roll_back(two, registry=Registry(down=True), quarantine=True)
    registry = Registry(deleted=(2,))
    found = resumed(two, registry)
    assert found is not None
    assert (found.registry_problem, registry.tags) == ("no version 2 of flights", {3: {**FORCED, **WITHDRAWN}})
    assert resumed(two, registry) is None
    without_tags = Registry(deleted=(3,))
    lift_quarantine(two, 3, by="anna", reason="r", at=NOW)
    found = resumed(two, without_tags)
    assert found is not None
    assert (found.registry_problem, without_tags.champion, without_tags.tags) == (None, 2, {})


def test_what_is_told_is_a_step_of_the_plan(two: ModelStore) -> None:
    """A dry run says so; of a shadow, and of a canary that the gate approved, there is nothing to tell."""
    facts = two.facts(3)
    canary = plan_canary("flights", TENTH, **facts)
    assert _last(plan_rollout("flights", 3, **facts)) == "in MLflow, point the alias `champion` at version 3"
    assert _last(plan_rollback("flights", None, **facts)) == (
        "in MLflow, point the alias `champion` at version 1 and tag as quarantined version 2"
    )
    assert _last(overruling(canary)) == "in MLflow, tag as forced version 3"
    assert "MLflow" not in _last(canary) + _last(plan_shadow("flights", 3, **facts))
    carry_out(canary, two)
    assert _last(plan_end_canary("flights", **two.facts(3))) == "in MLflow, tag as quarantined version 3"


def _last(plan: Plan) -> str:
    return str(plan.steps[-1])
