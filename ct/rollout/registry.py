"""The model registry follows what serves: its alias `champion`, and tags on what was forced or withdrawn.

::

    models/<name>/
      registry.behind   there while the registry is not known to say what the history says
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ct.errors import NotRegisteredError, RegistryError
from ct.home import write_atomically
from ct.rollout.history import BESIDE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ct.contracts import HistoryEntry, QuarantineRecord
    from ct.rollout.store import ModelStore

DAY = "%Y-%m-%d"


class Registry(Protocol):
    """What ct asks of a registry when what serves changes."""

    def point_champion(self, name: str, version: int) -> None:
        """Make the alias `champion` name this version.

        Raises:
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

    @property
    def exists(self) -> bool:
        """Whether the registry is to be told everything yet."""
        return self._path.exists()

    def write(self) -> None:
        """Note that it is; on disk when this returns."""
        if not self.exists:
            write_atomically(self._path, "")

    def remove(self) -> None:
        """Note that it has been told."""
        self._path.unlink(missing_ok=True)


def is_told(entry: HistoryEntry) -> bool:
    """Whether a change is one that the registry is told of."""
    return entry.change not in BESIDE or entry.forced or entry.quarantined is not None


def follow(registry: Registry, store: ModelStore, entry: HistoryEntry | None = None) -> str | None:
    """Let the registry say what the history says: of one change, or all of it where the registry is behind.

    Args:
        registry: the registry.
        store: the model's.
        entry: the change. None: all of it.

    Returns:
        Why the registry is behind; None when it is not.
    """
    change = None if store.registry_is_behind else entry
    try:
        if change is None or change.change not in BESIDE:
            _point_champion(registry, store)
        for version, tags in tags_of(store).items():
            if change is None or version in (change.lets_answer, change.quarantined):
                with suppress(NotRegisteredError):  # somebody has deleted it there, and so there is nothing to tag
                    registry.tag_version(store.name, version, tags)
    except RegistryError as error:
        store.note_registry(is_behind=True)
        return error.message
    if change is None:
        store.note_registry(is_behind=False)
    return None


def tags_of(store: ModelStore) -> dict[int, dict[str, str]]:
    """Version -> what its tags in the registry say of the time after its verdict: that it was forced, that it was withdrawn.

    Raises:
        RolloutError: quarantine.json cannot be read.
    """
    tags: dict[int, dict[str, str]] = {}
    for entry in store.history():
        if entry.forced:
            forced = {"ct.forced_by": entry.actor, "ct.forced_reason": entry.reason}
            tags.setdefault(entry.lets_answer, {}).update(forced)
    for record in store.quarantine_records():
        tags.setdefault(record.version, {})["ct.quarantine"] = _told(record)
    return tags


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
