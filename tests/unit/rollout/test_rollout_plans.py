"""Plans of canaries, shadows and their end: pure functions, so no store is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rollout_parts import NOW

from ct.contracts import Canary, Change, DesiredState, HistoryEntry
from ct.errors import RolloutError
from ct.rollout import kept, plan_canary, plan_end, plan_rollback, plan_rollout, plan_shadow
from ct.rollout.plan import plan_revert
from ct.rollout.steps import AwaitWorkers, Desire, Remember, TellRegistry

if TYPE_CHECKING:
    from ct.rollout import Facts, Plan

TENTH = Canary(version=10, share=0.1, key="header:ct-key")
HALF = Canary(version=10, share=0.5, key="header:ct-key")


def facts(canary: Canary | None = None, shadow: int | None = None) -> Facts:
    """Versions 1, 2, 3 were rolled out one after the other; 3 serves, with a canary and a shadow where given."""
    history = [
        HistoryEntry(
            generation=v, change=Change.ROLLOUT, version=v, previous=v - 1 or None, at=NOW, actor="a", reason="r"
        )
        for v in (1, 2, 3)
    ]
    desired = DesiredState(
        name="flights", generation=3, version=3, previous=2, warm=(3, 2, 1), canary=canary, shadow=shadow
    )
    return {"desired": desired, "history": history, "versions": (1, 2, 3, 10, 11), "keep": 2, "quarantined": ()}


def kinds(plan: Plan) -> list[type]:
    """The steps' kinds, in order."""
    return [type(step) for step in plan.steps]


def test_a_canary_keeps_the_champion_and_leaves_the_alias_alone() -> None:
    """Version 3 and what a worker falls back to stay; there is no TellRegistry."""
    plan = plan_canary("flights", TENTH, **facts())
    assert (plan.after.version, plan.after.previous, plan.after.generation) == (3, 2, 4)
    assert (plan.after.canary, plan.after.shadow) == (TENTH, None)
    assert kinds(plan) == [Desire, AwaitWorkers, Remember]


def test_a_shadow_keeps_the_champion_and_leaves_the_alias_alone() -> None:
    """The same for a shadow."""
    plan = plan_shadow("flights", 10, **facts())
    assert (plan.after.version, plan.after.canary, plan.after.shadow) == (3, None, 10)
    assert kinds(plan) == [Desire, AwaitWorkers, Remember]


def test_a_canary_beside_a_shadow_keeps_it_and_the_reverse() -> None:
    """Each begins beside the other; both may be one version."""
    assert plan_canary("flights", TENTH, **facts(shadow=11)).after.shadow == 11
    assert plan_shadow("flights", 11, **facts(canary=TENTH)).after.canary == TENTH
    assert plan_canary("flights", TENTH, **facts(shadow=10)).after.warm == (3, 10, 2)


def test_warm_is_champion_canary_shadow_then_the_newest_that_served() -> None:
    """`keep` counts champions; canary and shadow come on top."""
    plan = plan_shadow("flights", 11, **facts(canary=TENTH))
    assert plan.after.warm == (3, 10, 11, 2)
    assert kept(plan.after) == 2


def test_an_old_champion_as_shadow_is_loaded_once() -> None:
    """Version 2 is warm already; as shadow it comes before, and makes room for version 1."""
    assert plan_shadow("flights", 2, **facts()).after.warm == (3, 2, 1)


def test_changing_the_share_keeps_the_version() -> None:
    """10% of version 10 becomes half of version 10."""
    plan = plan_canary("flights", HALF, **facts(canary=TENTH))
    assert (plan.change, plan.after.version, plan.after.canary) == (Change.CANARY, 3, HALF)


def test_an_end_ends_both_and_keeps_the_champion() -> None:
    """Nothing is beside version 3, and the versions that were are not warm."""
    plan = plan_end("flights", **facts(canary=TENTH, shadow=11))
    assert (plan.after.version, plan.after.canary, plan.after.shadow, plan.after.warm) == (3, None, None, (3, 2))
    assert kinds(plan) == [Desire, AwaitWorkers, Remember]


def test_a_full_rollout_and_a_rollback_end_canary_and_shadow() -> None:
    """Also when the canary itself is rolled out."""
    now = facts(canary=TENTH, shadow=11)
    for plan in (plan_rollout("flights", 10, **now), plan_rollback("flights", None, **now)):
        assert (plan.after.canary, plan.after.shadow) == (None, None)
        assert TellRegistry in kinds(plan)
    assert plan_rollout("flights", 10, **now).after.warm == (10, 3)


def test_a_revert_restores_canary_and_shadow() -> None:
    """What was desired before the failed rollout is desired again, under a new generation."""
    now = facts(canary=TENTH, shadow=11)
    reverted = plan_revert(plan_rollout("flights", 10, **now)).after
    assert now["desired"] is not None
    assert reverted == now["desired"].model_copy(update={"generation": 5})


def test_a_rollback_is_not_led_astray_by_canaries() -> None:
    """Version 10 was a canary and never champion: before version 3 there was version 2."""
    now = facts()
    beside = plan_canary("flights", TENTH, **now).after
    entry = HistoryEntry(
        generation=4, change=Change.CANARY, version=3, previous=3, at=NOW, actor="a", reason="r", canary=TENTH
    )
    now.update(desired=beside, history=[*now["history"], entry])
    assert plan_rollback("flights", None, **now).after.version == 2


def test_the_champion_is_neither_its_own_canary_nor_its_own_shadow() -> None:
    """The message says that it is serving already."""
    with pytest.raises(RolloutError, match=r"Version 3 .* is serving already, so it cannot be its own canary"):
        plan_canary("flights", TENTH.model_copy(update={"version": 3}), **facts())
    with pytest.raises(RolloutError, match="its own shadow"):
        plan_shadow("flights", 3, **facts())


def test_a_rollout_of_what_serves_is_refused() -> None:
    """With a canary going, the message names the command that ends it."""
    with pytest.raises(RolloutError, match=r"is serving already\. Nothing was changed\.$"):
        plan_rollout("flights", 3, **facts())
    with pytest.raises(RolloutError, match=r"is serving already\. .*`ct rollout flights --end` ends its canary\."):
        plan_rollout("flights", 3, **facts(canary=TENTH))


def test_what_is_so_already_is_refused() -> None:
    """The same canary, the same shadow, and an end of nothing change nothing, and say so."""
    with pytest.raises(RolloutError, match=r"as asked already: version 10 answers 10% by header ct-key\. Nothing"):
        plan_canary("flights", TENTH, **facts(canary=TENTH))
    with pytest.raises(RolloutError, match=r"is the shadow of \"flights\" already\. Nothing was changed"):
        plan_shadow("flights", 11, **facts(shadow=11))
    with pytest.raises(RolloutError, match=r"no canary or shadow .* Version 3 serves alone\. Nothing was changed"):
        plan_end("flights", **facts())


def test_a_version_without_files_goes_beside_nothing() -> None:
    """The message says what is still serving."""
    with pytest.raises(RolloutError, match=r"begin a canary .* version 7: its files are missing .* Version 3 is still"):
        plan_canary("flights", TENTH.model_copy(update={"version": 7}), **facts())
    with pytest.raises(RolloutError, match="begin a shadow"):
        plan_shadow("flights", 7, **facts())


def test_nothing_goes_beside_nothing() -> None:
    """Before the first rollout there is no champion to go beside."""
    nothing: Facts = {"desired": None, "history": (), "versions": (10,), "keep": 2, "quarantined": ()}
    with pytest.raises(RolloutError, match=r"nothing serves yet\. Let a version serve first"):
        plan_canary("flights", TENTH, **nothing)
    with pytest.raises(RolloutError, match="Nothing serves yet"):
        plan_end("flights", **nothing)


def test_generations_never_come_twice() -> None:
    """After a refused first version, and after desired.json was lost, the next generation is new to workers and history."""
    nothing: Facts = {"desired": None, "history": (), "versions": (1,), "keep": 2, "quarantined": ()}
    assert plan_rollout("flights", 1, **nothing).after.generation == 1
    assert plan_rollout("flights", 1, reached=1, **nothing).after.generation == 2
    lost = facts()
    lost["desired"] = None
    assert plan_rollout("flights", 1, **lost).after.generation == 4


def test_steps_say_in_words_what_they_do() -> None:
    """A dry run prints these."""
    desire, wait, remember = plan_canary("flights", TENTH, **facts(shadow=11)).steps
    assert str(desire) == (
        "let version 3 serve, let version 10 answer 10% by header ct-key, let version 11 predict unseen, "
        "keep 3, 10, 11, 2 loaded"
    )
    assert str(wait) == "wait until every serving worker holds version 10 as canary"
    assert str(remember) == "write the canary to the history"
