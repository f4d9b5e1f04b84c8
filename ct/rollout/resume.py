"""Finishes what was cut short: a change whose command was killed, and a registry that could not be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct.rollout.execution import complete_revert, finish
from ct.rollout.locks import alone, writing
from ct.rollout.plan import plan_of
from ct.rollout.registry import tell_all
from ct.rollout.waiting import LaggingError, OvertakenError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ct.contracts import HistoryEntry
    from ct.rollout.journal import Journal
    from ct.rollout.registry import Registry
    from ct.rollout.store import ModelStore


@dataclass(frozen=True)
class Resumed:
    """What was found cut short, and what became of it."""

    message: str
    """A sentence for people; empty when only the registry was behind."""
    entry: HistoryEntry | None
    """The change that was found; None when only the registry was behind."""
    registry_problem: str | None
    """Why the registry is behind still; None when it is not."""


def resume(
    store: ModelStore, registry: Registry, *, clock: Callable[[], datetime], timeout_s: float = 60.0
) -> Resumed | None:
    """Finish a change that was cut short, and tell the registry what it lacks. Calling it at any time, from anywhere, is safe.

    - The change is desired: the workers are waited for, as its own command would have. When they hold the version the history
      is written, the version that it quarantines is quarantined, and the registry follows; when they refuse it, it is reverted.
    - It was to be reverted: the revert is carried out.
    - It had not come to be desired: it is dropped, as if it had never been asked for.

    A change whose command runs is left to it, and a rollback may overtake this as it overtakes any change.

    Args:
        store: the model's.
        registry: what follows what serves. It is asked only when it is behind.
        clock: the time for the history, with a zone.
        timeout_s: how long workers may take to load and prove the version.

    Returns:
        None when there was nothing to do, or somebody else is at it.

    Raises:
        RolloutError: desired.json or quarantine.json cannot be read; nothing that serves was changed.
    """
    with alone(store) as is_alone:
        if not is_alone:
            return None
        journal = store.journal()
        message = _resume(journal, store, registry, clock=clock, timeout_s=timeout_s) if journal else ""
        if message is None:
            return None
        is_behind = store.registry_behind is not None
        problem = tell_all(registry, store) if is_behind else None
    if not message and not is_behind:
        return None
    return Resumed(message, journal.entry if journal and message else None, problem)


def _resume(
    journal: Journal, store: ModelStore, registry: Registry, *, clock: Callable[[], datetime], timeout_s: float
) -> str | None:
    """What became of the change, in words; None when it was overtaken and so is another's to finish."""
    entry = journal.entry
    told = f'the {entry.change.value} of "{store.name}" (version {journal.after.version}) by {entry.actor}, cut short,'
    with writing(store):
        if store.journal() != journal:
            return None
        pending = journal.pending(store.desired())
        if pending is None:
            store.settle()
            return f"{told} had changed nothing and is dropped"
        if journal.revert is not None:
            complete_revert(journal, store)
            return f"{told} is reverted: {journal.revert.reason}"
    try:
        finish(plan_of(journal), journal, store, registry, clock=clock, timeout_s=timeout_s)
    except OvertakenError:
        return None
    except (RefusedError, LaggingError) as error:
        return f"{told} has ended: {error.message}"
    return f"{told} is finished"
