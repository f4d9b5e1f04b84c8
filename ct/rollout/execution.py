"""The steps of a change that has come to be desired, whoever carries them out: its own command, or one that resumes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.contracts import HistoryEntry
from ct.rollout.locks import writing
from ct.rollout.plan import plan_revert
from ct.rollout.registry import tell
from ct.rollout.steps import AwaitWorkers, Quarantine, Remember, TellRegistry
from ct.rollout.waiting import LaggingError, RefusedError, await_workers, require_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ct.rollout.journal import Journal
    from ct.rollout.registry import Registry
    from ct.rollout.steps import Plan
    from ct.rollout.store import ModelStore


@dataclass(frozen=True)
class Applied:
    """What a plan's execution came to."""

    entry: HistoryEntry
    workers: int
    """Serving workers that answered with the version; 0 when none runs, and then the next one to start takes it."""
    registry_problem: str | None
    """Why the registry is behind; `ct.rollout.resume` tells it later."""


def finish(
    plan: Plan,
    journal: Journal,
    store: ModelStore,
    registry: Registry,
    *,
    clock: Callable[[], datetime],
    timeout_s: float,
) -> Applied:
    """Carry out what follows after the change is desired. Every step may be done already, and is not done twice.

    Raises:
        RefusedError: as `apply`.
        LaggingError: as `apply`.
        OvertakenError: as `apply`.
        RolloutError: quarantine.json cannot be read.
    """
    entry = _remembered(plan, store)
    workers, problem, lagging = 0, None, None
    for step in plan.steps:
        if isinstance(step, AwaitWorkers) and entry is None:
            try:
                workers = len(await_workers(plan, step, store, timeout_s))
            except (RefusedError, LaggingError) as error:
                # What serves is worse than a worker that is late: all others roll back, and that one when it can. But
                # a version that does not load answers nobody, and a worker that starts would fall back from it.
                if not plan.withdraws or isinstance(error, RefusedError):
                    _revert(plan, journal, store, reason=error.message, clock=clock)
                    raise
                lagging = error
        elif isinstance(step, Remember) and entry is None:
            entry = journal.entry.model_copy(update={"at": clock()})
            with writing(store):
                require_own(plan, store)
                store.remember(entry)
        elif isinstance(step, Quarantine):
            with writing(store):
                store.quarantine(entry or journal.entry)
        elif isinstance(step, TellRegistry):
            problem = tell(registry, store, step)
    with writing(store):
        store.end(plan.after.generation)
    if lagging is not None:
        raise lagging
    return Applied(entry or journal.entry, workers, problem)


def complete_revert(journal: Journal, store: ModelStore) -> None:
    """Desire again all that was before, and write that to the history. Only for the holder of the write lock."""
    store.desire(journal.reverted)
    store.settle()


def _remembered(plan: Plan, store: ModelStore) -> HistoryEntry | None:
    """The change's line in the history; it says that the wait for the workers is over, too."""
    newest = store.remembered()
    return newest if newest is not None and newest.generation == plan.after.generation else None


def _revert(plan: Plan, journal: Journal, store: ModelStore, *, reason: str, clock: Callable[[], datetime]) -> None:
    """Desire again all that was before. Before the first rollout there is nothing to go back to: the pointer goes."""
    with writing(store):
        require_own(plan, store)
        if plan.before is None:
            store.desire_nothing()
            return
        revert = plan_revert(plan)
        entry = HistoryEntry(
            generation=revert.after.generation,
            change=revert.change,
            version=revert.after.version,
            previous=plan.after.version,
            at=clock(),
            actor=journal.entry.actor,
            reason=reason,
            canary=revert.after.canary,
            shadow=revert.after.shadow,
        )
        journal = journal.model_copy(update={"revert": entry})
        store.begin(journal)
        complete_revert(journal, store)
