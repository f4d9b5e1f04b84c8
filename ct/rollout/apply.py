"""Executes a plan. Serving is what counts: the registry may be away, and the change still happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.contracts import HistoryEntry
from ct.errors import RolloutError
from ct.rollout.execution import finish
from ct.rollout.journal import Journal
from ct.rollout.locks import under_way, writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ct.rollout.execution import Applied
    from ct.rollout.registry import Registry
    from ct.rollout.steps import Plan
    from ct.rollout.store import ModelStore


def apply(
    plan: Plan,
    store: ModelStore,
    registry: Registry,
    *,
    actor: str,
    reason: str,
    clock: Callable[[], datetime],
    timeout_s: float = 60.0,
) -> Applied:
    """Execute a plan's steps in order.

    Each step is on disk when the next one begins. When the process is killed in between, what was desired stays desired, and
    whoever comes next finishes it: `ct.rollout.resume`, or a rollback that overtakes it.

    Args:
        plan: from ct.rollout.plan, made from the store as it is now, and admitted by ct.rollout.admit.
        store: the model's store.
        registry: what follows what serves.
        actor: who changes it, for the history.
        reason: why, for the history.
        clock: the time for the history, with a zone.
        timeout_s: how long workers may take to load and prove the version.

    Raises:
        RolloutError: another change is under way, or the store has changed since the plan was made. Nothing was changed.
        RefusedError: a worker did not take the version. All that was desired before is desired again, and the history says so.
        LaggingError: not every worker answered in time. A rollback, or the end of a worse canary, stays desired and is in the
            history; after any other change all is as after a refusal.
        OvertakenError: a rollback, or the change after it, came while this one waited. What that one desires counts.
    """
    with under_way(store, plan.change):
        entry = HistoryEntry(
            generation=plan.after.generation,
            change=plan.change,
            version=plan.after.version,
            previous=plan.before.version if plan.before else None,
            at=clock(),
            actor=actor,
            reason=reason,
            canary=plan.after.canary,
            shadow=plan.after.shadow,
            forced=plan.forced,
            quarantined=plan.quarantines,
        )
        journal = Journal(before=plan.before, after=plan.after, entry=entry)
        _desire(plan, store, journal)
        return finish(plan, journal, store, registry, clock=clock, timeout_s=timeout_s)


def _desire(plan: Plan, store: ModelStore, journal: Journal) -> None:
    with writing(store):
        if store.desired() != plan.before:
            raise RolloutError(
                f'What "{plan.name}" should serve changed meanwhile. Nothing was changed. Try again.', name=plan.name
            )
        store.settle()
        store.begin(journal)
        store.desire(plan.after)
