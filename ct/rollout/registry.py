"""The model registry follows what serves: its alias `champion`, and tags on what was forced or withdrawn.

::

    models/<name>/
      registry.behind   there while the registry is not known to say what the history says
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ct.contracts import Change
from ct.errors import NotRegisteredError, RegistryError
from ct.home import write_atomically
from ct.rollout.locks import writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ct.contracts import HistoryEntry, QuarantineRecord
    from ct.rollout.steps import TellRegistry
    from ct.rollout.store import ModelStore

DAY = "%Y-%m-%d"


class Registry(Protocol):
    """What ct asks of a registry when what serves changes."""

    def point_champion(self, name: str, version: int) -> None:
        """Make the alias `champion` name this version.

        Raises:
            NotRegisteredError: the registry has no such version.
            RegistryError: the registry refused or did not answer.
        """
        ...

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or replace them.

        Raises:
            NotRegisteredError: the registry has no such version.
            RegistryError: the registry refused or did not answer.
        """
        ...


class BehindFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "registry.behind"

    def read(self) -> str | None:
        """What tells one note from another; None while there is none."""
        try:
            return self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None

    def write(self) -> None:
        """Note that the registry is to be told everything, from now on; on disk when this returns."""
        write_atomically(self._path, secrets.token_hex(8))

    def remove(self) -> None:
        """Note that it has been told."""
        self._path.unlink(missing_ok=True)


def is_told(entry: HistoryEntry) -> bool:
    """Whether a change is one that the registry is told of."""
    return entry.change in (Change.ROLLOUT, Change.ROLLBACK) or entry.forced or entry.quarantined is not None


def tell(registry: Registry, store: ModelStore, step: TellRegistry) -> str | None:
    """Let the registry say what one change has changed. What it does not take now, `tell_all` tells it later.

    Returns:
        Why the registry was not told; None when it was.

    Raises:
        RolloutError: quarantine.json cannot be read.
    """
    was_behind = store.registry_behind is not None
    tags = {version: own for version, own in tags_of(store).items() if version in (step.quarantined, step.forced)}
    try:
        problem = _say(registry, store, tags, points=step.champion is not None)
    except RegistryError as error:
        store.note_registry_behind()
        return error.message
    if was_behind:
        store.note_registry_behind()  # whoever tells everything meanwhile may have read what was before this change
    return problem


def tell_all(registry: Registry, store: ModelStore) -> str | None:
    """Let a registry that is behind say all that history and quarantine say. Only for one at a time.

    Returns:
        Why the registry is behind still, or cannot say all; None when it does.

    Raises:
        RolloutError: quarantine.json cannot be read.
    """
    while True:
        with writing(store):
            note, tags = store.registry_behind, tags_of(store)
        if note is None:
            return None
        try:
            problem = _say(registry, store, tags, points=True)
        except RegistryError as error:
            return error.message
        with writing(store):
            if store.registry_behind == note:
                store.note_registry_told()
                return problem


def tags_of(store: ModelStore) -> dict[int, dict[str, str]]:
    """Version -> what its tags in the registry say of the time after its verdict: that it was forced, that it was withdrawn.

    A change that may yet be reverted is left out.

    Raises:
        RolloutError: quarantine.json cannot be read.
    """
    tags: dict[int, dict[str, str]] = {}
    for entry in store.history(pending=False):
        if entry.forced:
            forced = {"ct.forced_by": entry.actor, "ct.forced_reason": entry.reason}
            tags.setdefault(entry.lets_answer, {}).update(forced)
    for record in store.quarantine_records(pending=False):
        tags.setdefault(record.version, {})["ct.quarantine"] = _told(record)
    return tags


def _say(registry: Registry, store: ModelStore, tags: Mapping[int, Mapping[str, str]], *, points: bool) -> str | None:
    """Point the alias, and write the tags.

    Returns:
        That the registry lacks the version that serves, so that its alias cannot name it. A later try does not help.

    Raises:
        RegistryError: the registry refused or did not answer.
    """
    problem = None
    if points:
        try:
            _point_champion(registry, store)
        except NotRegisteredError as error:
            problem = error.message
    for version, own in tags.items():
        with suppress(NotRegisteredError):  # somebody has deleted it there, and so there is nothing to tag
            registry.tag_version(store.name, version, own)
    return problem


def _point_champion(registry: Registry, store: ModelStore) -> None:
    """To what the history names last, and on to what a rollback let serve meanwhile: whoever points last looks once more."""
    pointed = None
    while (newest := store.remembered()) is not None and newest.version != pointed:
        registry.point_champion(store.name, newest.version)
        pointed = newest.version


def _told(record: QuarantineRecord) -> str:
    if record.lifted is None:
        return f"since {record.at:{DAY}} by {record.by}: {record.reason}"
    return f"lifted {record.lifted.at:{DAY}} by {record.lifted.by}: {record.lifted.reason}"
