"""Resuming: what it finishes, what it leaves alone, and that anybody may ask for it at any time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rollout_parts import NOW, Registry, answering, carry_out, roll_back, roll_out, worker
from test_rollout_waiting import await_true, desires, never_three

from ct.contracts import Canary, Change, HistoryEntry
from ct.home import Home
from ct.rollout import ModelStore, Plan, Resumed, plan_canary, plan_rollback, plan_rollout, resume
from ct.rollout.journal import Journal

if TYPE_CHECKING:
    from ct.contracts import WorkerState


def resumed(store: ModelStore, registry: Registry, timeout_s: float = 10) -> Resumed | None:
    """Resume."""
    return resume(store, registry, clock=lambda: NOW, timeout_s=timeout_s)


class Watched(ModelStore):
    """A store that says when its workers are waited for. To ask for the lock instead could keep the other one from it."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(Home(store.root.parent.parent), store.name)
        self.waited_for = threading.Event()

    def live_workers(self) -> tuple[WorkerState, ...]:
        """The same."""
        self.waited_for.set()
        return super().live_workers()


def cut_short(store: ModelStore, plan: Plan, *, remembered: bool = False) -> None:
    """What `kill -9` as soon as a change is desired leaves behind, or once it is in the history."""
    entry = HistoryEntry(
        generation=plan.after.generation,
        change=plan.change,
        version=plan.after.version,
        previous=plan.before.version if plan.before else None,
        at=NOW,
        actor="killed",
        reason="r",
        quarantined=plan.quarantines,
    )
    store.begin(Journal(before=plan.before, after=plan.after, entry=entry))
    store.desire(plan.after)
    if remembered:
        store.remember(entry)


def test_with_nothing_to_do_nothing_is_done(store: ModelStore) -> None:
    """Before the first rollout, and after one that is whole; the registry is not even asked."""
    assert resumed(store, Registry(down=True)) is None
    roll_out(store, 1)
    assert resumed(store, Registry(down=True)) is None


def test_an_alias_that_could_not_be_moved_is_moved_later(store: ModelStore) -> None:
    """Also when the registry is down for several looks, and when a canary began meanwhile."""
    roll_out(store, 1)
    roll_out(store, 2, Registry(down=True))
    still_down = resumed(store, Registry(down=True))
    assert still_down is not None
    assert (still_down.message, still_down.entry, still_down.registry_problem) == ("", None, "no registry for flights")
    canary = Canary(version=3, share=0.1, key="header:k")
    carry_out(plan_canary("flights", canary, **store.facts(3)), store, Registry(down=True))
    registry = Registry()
    up_again = resumed(store, registry)
    assert up_again is not None
    assert (up_again.registry_problem, registry.champion) == (None, 2)
    assert resumed(store, Registry(down=True)) is None


def test_a_running_command_is_left_alone(store: ModelStore) -> None:
    """While a rollout waits for the workers nobody else touches it."""
    roll_out(store, 1)
    with answering(store, never_three), ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(roll_out, store, 3, timeout_s=30)
        await_true(desires(store, 3))
        assert resumed(store, Registry()) is None
        assert store.journal() is not None
        roll_back(store)
        assert waiting.exception() is not None


def test_a_rollback_overtakes_a_resumption_that_waits(store: ModelStore) -> None:
    """It goes to what served before, at once, and the resumption ends quietly."""
    roll_out(store, 1)
    roll_out(store, 2)
    cut_short(store, plan_rollout("flights", 3, **store.facts(3)))
    with answering(store, never_three), ThreadPoolExecutor(1) as threads:
        watched = Watched(store)
        waiting = threads.submit(resumed, watched, Registry(), 30)
        assert watched.waited_for.wait(10)
        assert roll_back(store, quarantine=True).entry.version == 2
        assert waiting.result() is None
    assert [entry.version for entry in store.history()] == [1, 2, 3, 2]
    assert store.quarantined() == (3,)


def test_a_rollout_that_workers_refuse_is_reverted_with_the_reason(store: ModelStore) -> None:
    """As its own command would have done; the history has the revert, in the name of who wanted the rollout."""
    roll_out(store, 1)
    cut_short(store, plan_rollout("flights", 2, **store.facts(3)))
    with answering(store, lambda now: worker(now.generation, 1, "damaged" if now.version == 2 else None)):
        found = resumed(store, Registry())
    assert found is not None
    assert "has ended: Version 2" in found.message
    assert "damaged" in found.message
    last = store.history()[-1]
    assert (last.change, last.version, last.actor) == (Change.REVERT, 1, "killed")
    assert store.journal() is None


def test_a_rollout_that_workers_never_take_is_reverted(store: ModelStore) -> None:
    """After the time that a rollout has."""
    roll_out(store, 1)
    cut_short(store, plan_rollout("flights", 2, **store.facts(3)))
    with answering(store, lambda now: worker(now.generation - 1, 1)):
        found = resumed(store, Registry(), timeout_s=0.2)
    assert found is not None
    assert desires(store, 1)()


def test_a_rollback_that_was_cut_short_quarantines_when_it_is_resumed(store: ModelStore) -> None:
    """Before that, what it was to quarantine counts as quarantined already."""
    roll_out(store, 1)
    roll_out(store, 2)
    cut_short(store, plan_rollback("flights", None, **store.facts(3)))
    assert store.quarantined() == (2,)
    registry = Registry()
    assert resumed(store, registry) is not None
    assert (store.quarantined(), registry.champion, store.journal()) == ((2,), 1, None)
    assert (store.root / "quarantine.json").exists()


def test_a_first_rollout_that_is_refused_when_resumed_leaves_nothing_desired(store: ModelStore) -> None:
    """There is nothing to go back to."""
    cut_short(store, plan_rollout("flights", 1, **store.facts(3)))
    with answering(store, lambda now: worker(now.generation, None, "damaged")):
        found = resumed(store, Registry())
    assert found is not None
    assert (store.desired(), store.history(), store.journal()) == (None, (), None)


def test_a_version_that_the_workers_have_taken_is_not_proven_again(store: ModelStore) -> None:
    """The wait was over when the command was killed: what a worker has against the version later is no reason to revert."""
    roll_out(store, 1)
    cut_short(store, plan_rollout("flights", 2, **store.facts(3)), remembered=True)
    with answering(store, lambda now: worker(now.generation, 1, "out of memory")):
        found = resumed(store, Registry())
    assert found is not None
    assert found.message.endswith("is finished")
    assert [entry.change for entry in store.history()] == [Change.ROLLOUT, Change.ROLLOUT]
