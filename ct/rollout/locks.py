"""Who may change what one model serves. A lock goes with the process that holds it.

::

    models/<name>/
      lock         held by a change from its first step to its last; a rollback goes on without it
      write.lock   held for moments, while one of the model's files is written
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ct.contracts import Change
from ct.errors import RolloutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct.rollout.store import ModelStore


@contextmanager
def under_way(store: ModelStore, change: Change) -> Iterator[None]:
    """One change of a model at a time, but for a rollback: it overtakes a change that waits for the workers.

    Raises:
        RolloutError: another change is under way, and this one is no rollback.
    """
    with alone(store) as is_alone:
        if not is_alone and change is not Change.ROLLBACK:
            raise RolloutError(
                f'Another change of what "{store.name}" serves is under way. Nothing was changed. '
                f"Try again in a moment; `ct rollback {store.name}` need not wait for it.",
                name=store.name,
            )
        yield


@contextmanager
def alone(store: ModelStore) -> Iterator[bool]:
    """Whether no other change holds the model; nobody waits. Where true, other changes but a rollback are kept out."""
    store.root.mkdir(parents=True, exist_ok=True)
    with (store.root / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        yield is_alone


@contextmanager
def writing(store: ModelStore) -> Iterator[None]:
    """Only the holder writes desired state, journal, history, quarantine and pins; whoever wants to is next within moments."""
    store.root.mkdir(parents=True, exist_ok=True)
    with (store.root / "write.lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
