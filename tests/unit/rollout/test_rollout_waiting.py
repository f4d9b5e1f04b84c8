"""Changes that meet each other, and workers that are late."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from rollout_parts import NOW, Registry, answering, carry_out, roll_back, roll_out, worker

from ct.contracts import Change, HistoryEntry
from ct.errors import RolloutError
from ct.home import Home
from ct.rollout import ModelStore, apply, plan_rollback, plan_rollout
from ct.rollout.journal import Journal
from ct.rollout.waiting import LaggingError, OvertakenError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ct.contracts import DesiredState, WorkerState


def never_three(desired: DesiredState) -> WorkerState:
    """A worker that is for ever loading version 3."""
    if desired.version == 3:
        return worker(desired.generation - 1, 2)
    return worker(desired.generation, desired.version)


def await_true(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 10 s at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def desires(store: ModelStore, version: int) -> Callable[[], bool]:
    """Whether a version is desired."""

    def does() -> bool:
        desired = store.desired()
        return desired is not None and desired.version == version

    return does


def test_a_rollback_overtakes_a_rollout_that_waits(store: ModelStore) -> None:
    """At once, to what served before; the rollout ends with an error that names the generation, and reverts nothing."""
    roll_out(store, 1)
    roll_out(store, 2)
    with answering(store, never_three), ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(roll_out, store, 3, timeout_s=30)
        await_true(desires(store, 3))
        began = time.monotonic()
        assert roll_back(store).workers == 1
        with pytest.raises(OvertakenError, match=r"overtaken: generation 4 lets version 2 serve\. See") as overtaken:
            waiting.result()
        assert time.monotonic() - began < 5
    assert overtaken.value.facts["overtaken_by"] == 4
    assert desires(store, 2)()
    assert [(entry.change, entry.version) for entry in store.history()] == [
        (Change.ROLLOUT, 1),
        (Change.ROLLOUT, 2),
        (Change.ROLLOUT, 3),
        (Change.ROLLBACK, 2),
    ]
    assert not (store.root / "change.json").exists()


def test_only_a_rollback_overtakes(store: ModelStore) -> None:
    """Another rollout is refused while one waits, and the one that waits is not disturbed."""
    roll_out(store, 1)
    roll_out(store, 2)
    with answering(store, never_three), ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(roll_out, store, 3, timeout_s=0.5)
        await_true(desires(store, 3))
        with pytest.raises(RolloutError, match=r"under way\. Nothing was changed\. .*`ct rollback flights`"):
            roll_out(store, 10)
        with pytest.raises(LaggingError):
            waiting.result()
    assert [entry.change for entry in store.history()] == [Change.ROLLOUT, Change.ROLLOUT, Change.REVERT]


def overtake(store: ModelStore) -> None:
    """Let a rollback be desired, as its own command does."""
    state = plan_rollback("flights", None, **store.facts(3)).after
    store.settle()
    store.desire(state)


def test_a_rollout_that_is_overtaken_once_the_workers_have_answered_writes_nothing(store: ModelStore) -> None:
    """A rollback comes between the wait and the line in the history."""
    roll_out(store, 1)
    roll_out(store, 2)
    times = iter([lambda: None, lambda: overtake(store)])

    def clock() -> datetime:
        next(times)()
        return NOW

    registry = Registry()
    with pytest.raises(OvertakenError):
        apply(plan_rollout("flights", 3, **store.facts(3)), store, registry, actor="a", reason="better", clock=clock)
    assert desires(store, 2)()
    assert [entry.version for entry in store.history()] == [1, 2, 3]
    assert registry.champion is None


def test_a_rollout_that_is_overtaken_as_a_worker_refuses_it_reverts_nothing(store: ModelStore) -> None:
    """What the rollback desires stays."""
    roll_out(store, 1)
    roll_out(store, 2)

    class Overtaken(ModelStore):
        def live_workers(self) -> tuple[WorkerState, ...]:
            if not desires(store, 3)():
                return ()
            overtake(store)
            return (worker(3, 2, "damaged"),)

    with pytest.raises(OvertakenError):
        roll_out(Overtaken(Home(store.root.parent.parent), "flights"), 3)
    desired = store.desired()
    assert desired is not None
    assert (desired.generation, desired.version) == (4, 2)


def test_the_alias_follows_the_change_that_came_last(store: ModelStore) -> None:
    """A registry that takes its time over a rollout's alias, while a rollback is carried out, ends with the rollback's."""
    roll_out(store, 1)
    roll_out(store, 2)

    class Slow(Registry):
        def point_champion(self, name: str, version: int) -> None:
            if version == 3:
                roll_back(store, registry=self)
            super().point_champion(name, version)

    registry = Slow()
    roll_out(store, 3, registry)
    assert desires(store, 2)()
    assert registry.champion == 2


def test_a_rollback_that_a_worker_is_late_for_stays(store: ModelStore) -> None:
    """The bad version does not come back: the target is desired, in the history and aliased, and the error names the worker."""
    roll_out(store, 1)
    roll_out(store, 2)
    registry = Registry()
    late = worker(0, None)
    message = rf"Version 1 .* is desired and stays so.* Workers that lag: {late.pid}; workers that answer with it: 0\. "
    with (
        answering(store, lambda desired: worker(desired.generation - 1, 2)),
        pytest.raises(LaggingError, match=message) as lagging,
    ):
        carry_out(plan_rollback("flights", None, **store.facts(3)), store, registry, reason="worse", timeout_s=0.2)
    assert lagging.value.facts["lagging"] == [late.pid]
    assert desires(store, 1)()
    last = store.history()[-1]
    assert (last.change, last.version, last.reason) == (Change.ROLLBACK, 1, "worse")
    assert registry.champion == 1


def test_a_rollout_that_a_worker_is_late_for_is_reverted(store: ModelStore) -> None:
    """What served is proven, and the new version is not."""
    roll_out(store, 1)
    with (
        answering(store, lambda desired: worker(desired.generation - 1, 1)),
        pytest.raises(LaggingError, match="Workers that lag: "),
    ):
        roll_out(store, 2, timeout_s=0.2)
    assert desires(store, 1)()
    assert [entry.change for entry in store.history()] == [Change.ROLLOUT, Change.REVERT]


def test_a_rollback_to_a_version_that_does_not_load_is_reverted(store: ModelStore) -> None:
    """It would answer nobody."""
    roll_out(store, 1)
    roll_out(store, 2)

    def refuse_one(desired: DesiredState) -> WorkerState:
        return worker(desired.generation, 2, "damaged" if desired.version == 1 else None)

    with answering(store, refuse_one), pytest.raises(RefusedError, match=r"damaged\. Version 2 is still serving"):
        roll_back(store)
    assert desires(store, 2)()


def test_a_worker_that_answers_with_the_version_has_taken_it(store: ModelStore) -> None:
    """Whatever else it complains of, such as a file that it could not read for a moment."""
    roll_out(store, 1)
    roll_out(store, 2)
    with answering(store, lambda desired: worker(desired.generation, desired.version, "too many open files")):
        assert roll_back(store).workers == 1


def test_a_refused_plan_does_not_settle_the_change_that_waits(store: ModelStore) -> None:
    """A plan made before that change is refused, and the change is in the history once."""
    roll_out(store, 1)
    stale = plan_rollout("flights", 10, **store.facts(3))
    plan = plan_rollout("flights", 2, **store.facts(3))
    entry = HistoryEntry(
        generation=2, change=Change.ROLLOUT, version=2, previous=1, at=NOW, actor="waiting", reason="r"
    )
    store.begin(Journal(before=plan.before, after=plan.after, entry=entry))
    store.desire(plan.after)
    with pytest.raises(RolloutError, match="changed meanwhile"):
        carry_out(stale, store)
    store.remember(entry)
    assert [each.version for each in store.history()] == [1, 2]
