"""Executes a plan. Serving is what counts: the registry may be away, and the change still happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ct.contracts import Change, HistoryEntry
from ct.errors import RegistryError, RolloutError
from ct.rollout.locks import under_way, writing
from ct.rollout.plan import plan_revert
from ct.rollout.steps import AwaitWorkers, Desire, PointChampion
from ct.rollout.waiting import LaggingError, RefusedError, await_workers, require_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ct.contracts import DesiredState
    from ct.rollout.steps import Plan
    from ct.rollout.store import ModelStore


class Aliases(Protocol):
    """The registry's part in a rollout."""

    def point_champion(self, name: str, version: int) -> None:
        """Make the alias `champion` name this version.

        Raises:
            RegistryError: the registry refused or did not answer.
        """
        ...


@dataclass(frozen=True)
class Applied:
    """What a plan's execution came to."""

    entry: HistoryEntry
    workers: int
    """Serving workers that answered with the version; 0 when none runs, and then the next one to start takes it."""
    alias_problem: str | None
    """Why the registry's alias is behind; the next rollout or rollback moves it."""


def apply(
    plan: Plan,
    store: ModelStore,
    aliases: Aliases,
    *,
    actor: str,
    reason: str,
    clock: Callable[[], datetime],
    timeout_s: float = 60.0,
) -> Applied:
    """Execute a plan's steps in order.

    Each step is on disk when the next one begins. When the process is killed in between, what was desired stays desired, and
    the next change writes the one that was cut short to the history.

    Args:
        plan: from ct.rollout.plan, made from the store as it is now.
        store: the model's store.
        aliases: where the alias `champion` is kept.
        actor: who changes it, for the history.
        reason: why, for the history.
        clock: the time for the history, with a zone.
        timeout_s: how long workers may take to load and prove the version.

    Raises:
        RolloutError: another change is under way, or the store has changed since the plan was made. Nothing was changed.
        RefusedError: a worker did not take the version. All that was desired before is desired again, and the history says so.
        LaggingError: not every worker answered in time. A rollback stays desired and is in the history; after any other
            change all is as after a refusal.
        OvertakenError: a rollback, or the change after it, came while this one waited. What that one desires counts.
    """
    workers, alias_problem, lagging = 0, None, None
    with under_way(store, plan.change):
        entry = _entry(plan, actor=actor, reason=reason, clock=clock)
        for step in plan.steps:
            if isinstance(step, Desire):
                _desire(plan, store, step.state, entry)
            elif isinstance(step, AwaitWorkers):
                try:
                    workers = len(await_workers(plan, step, store, timeout_s))
                except (RefusedError, LaggingError) as error:
                    # What serves is worse than a worker that is late: all others roll back, and that one when it can. But
                    # a version that does not load answers nobody, and a worker that starts would fall back from it.
                    if plan.change is Change.ROLLBACK and isinstance(error, LaggingError):
                        lagging = error
                        continue
                    _revert(plan, store, actor=actor, reason=error.message, clock=clock)
                    raise
                entry = _entry(plan, actor=actor, reason=reason, clock=clock)
            elif isinstance(step, PointChampion):
                alias_problem = _point(aliases, store, step.version)
            else:
                with writing(store):
                    require_own(plan, store)
                    store.remember(entry)
    if lagging is not None:
        raise lagging
    return Applied(entry, workers, alias_problem)


def _desire(plan: Plan, store: ModelStore, state: DesiredState, entry: HistoryEntry) -> None:
    with writing(store):
        if store.desired() != plan.before:
            raise RolloutError(
                f'What "{plan.name}" should serve changed meanwhile. Nothing was changed. Try again.', name=plan.name
            )
        store.settle()
        store.begin(entry)
        store.desire(state)


def _revert(plan: Plan, store: ModelStore, *, actor: str, reason: str, clock: Callable[[], datetime]) -> None:
    """Desire again all that was before. Before the first rollout there is nothing to go back to: the pointer goes."""
    with writing(store):
        require_own(plan, store)
        if plan.before is None:
            store.desire_nothing()
            return
        revert = plan_revert(plan)
        entry = _entry(revert, actor=actor, reason=reason, clock=clock)
        store.begin(entry)
        store.desire(revert.after)
        store.remember(entry)


def _entry(plan: Plan, *, actor: str, reason: str, clock: Callable[[], datetime]) -> HistoryEntry:
    return HistoryEntry(
        generation=plan.after.generation,
        change=plan.change,
        version=plan.after.version,
        previous=plan.before.version if plan.before else None,
        at=clock(),
        actor=actor,
        reason=reason,
        canary=plan.after.canary,
        shadow=plan.after.shadow,
    )


def _point(aliases: Aliases, store: ModelStore, version: int) -> str | None:
    """Point the alias at the version, and on to what a rollback let serve meanwhile: whoever points last looks once more."""
    pointed = None
    try:
        while pointed != version:
            aliases.point_champion(store.name, version)
            newest, pointed = store.remembered(), version
            version = newest.version if newest else version
    except RegistryError as error:
        return error.message
    return None
