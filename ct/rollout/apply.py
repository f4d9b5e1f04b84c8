"""Executes a plan. Serving is what counts: the registry may be away, and the change still happens."""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ct.contracts import HistoryEntry
from ct.errors import RegistryError, RolloutError
from ct.rollout.plan import plan_revert
from ct.rollout.steps import AwaitWorkers, Desire, PointChampion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ct.contracts import WorkerState
    from ct.rollout.steps import Plan
    from ct.rollout.store import ModelStore

POLL_S = 0.01
"""Between two looks at the workers' files. A look is a few small reads, and a flip takes about as long as one pause."""


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
        RolloutError: another change is under way, the store has changed since the plan was made, or a worker did not take
            the version. In the last case all that was desired before is desired again, and the history says so.
    """
    workers, alias_problem = 0, None
    with _alone(store):
        store.settle()
        if store.desired() != plan.before:
            raise RolloutError(
                f'What "{plan.name}" should serve changed meanwhile. Nothing was changed. Try again.', name=plan.name
            )
        for step in plan.steps:
            if isinstance(step, Desire):
                store.begin(_entry(plan, actor=actor, reason=reason, clock=clock))
                store.desire(step.state)
            elif isinstance(step, AwaitWorkers):
                try:
                    workers = len(_await_workers(store, step, timeout_s))
                except RolloutError as error:
                    _revert(plan, store, actor=actor, reason=error.message, clock=clock)
                    raise
            elif isinstance(step, PointChampion):
                alias_problem = _point(aliases, plan.name, step.version)
            else:
                entry = _entry(plan, actor=actor, reason=reason, clock=clock)
                store.remember(entry)
    return Applied(entry, workers, alias_problem)


def _await_workers(store: ModelStore, step: AwaitWorkers, timeout_s: float) -> tuple[WorkerState, ...]:
    """Wait until every live worker has taken the version; a worker that dies meanwhile is not waited for."""
    deadline = time.monotonic() + timeout_s
    part = "" if step.part == "champion" else f" as {step.part}"
    while True:
        workers = store.live_workers()
        refused = next((worker for worker in workers if worker.generation >= step.generation and worker.error), None)
        if refused is not None:
            raise RolloutError(
                f'Version {step.version} of "{store.name}" was not taken{part}: {refused.error}. {_still_serving(workers)}. '
                f"See `ct models {store.name}`.",
                name=store.name,
                version=step.version,
                reason=refused.error,
            )
        if all(_has_taken(worker, step) for worker in workers):
            return workers
        if time.monotonic() >= deadline:
            raise RolloutError(
                f'Version {step.version} of "{store.name}" was not loaded{part} within {timeout_s:.0f} s. '
                f"{_still_serving(workers)}. See the serving log with `ct status`.",
                name=store.name,
                version=step.version,
            )
        time.sleep(POLL_S)


def _has_taken(worker: WorkerState, step: AwaitWorkers) -> bool:
    """Whether a worker dealt with the generation and has the version where it belongs: answering, or loaded beside."""
    if worker.generation < step.generation:
        return False
    return worker.serving == step.version if step.part == "champion" else step.version in worker.loaded


def _still_serving(workers: tuple[WorkerState, ...]) -> str:
    served = sorted({worker.serving for worker in workers if worker.serving is not None})
    return f"Version {', '.join(map(str, served))} is still serving" if served else "Nothing serves yet"


def _revert(plan: Plan, store: ModelStore, *, actor: str, reason: str, clock: Callable[[], datetime]) -> None:
    """Desire again all that was before. Before the first rollout there is nothing to go back to: the pointer goes."""
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


def _point(aliases: Aliases, name: str, version: int) -> str | None:
    try:
        aliases.point_champion(name, version)
    except RegistryError as error:
        return error.message
    return None


@contextmanager
def _alone(store: ModelStore) -> Iterator[None]:
    """One change of a model at a time; the lock goes with the process that holds it."""
    store.root.mkdir(parents=True, exist_ok=True)
    with (store.root / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RolloutError(
                f'Another change of what "{store.name}" serves is under way. Nothing was changed. Try again in a moment.',
                name=store.name,
            ) from error
        yield
