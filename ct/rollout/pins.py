"""Versions that garbage collection keeps because somebody said so.

::

    models/<name>/
      pins.json   {"versions": [7, 9]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import Value
from ct.errors import RolloutError
from ct.home import write_atomically
from ct.rollout.locks import writing

if TYPE_CHECKING:
    from pathlib import Path

    from ct.rollout.store import ModelStore


class _Pins(Value):
    versions: tuple[int, ...] = ()


class PinsFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "pins.json"

    def read(self) -> tuple[int, ...]:
        """The versions, in numeric order.

        Raises:
            RolloutError: the file cannot be read. To go on without it could delete what somebody wanted kept.
        """
        try:
            return _Pins.model_validate_json(self._path.read_bytes()).versions
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise RolloutError(
                f'Which versions of "{self._path.parent.name}" are pinned is not known: {self._path} cannot be read. '
                f"Nothing was changed. Restore the file, or remove it and pin again with `ct pin`.",
                path=str(self._path),
            ) from error

    def write(self, versions: tuple[int, ...]) -> None:
        """Replace the file."""
        write_atomically(self._path, _Pins(versions=versions).model_dump_json())


def pin(store: ModelStore, version: int) -> None:
    """Keep a version from garbage collection. Pinning it again changes nothing.

    Raises:
        UnknownVersionError: there is no such version.
        RolloutError: pins.json cannot be read.
    """
    store.manifest(version)
    with writing(store):
        store.pin_all(tuple(sorted({*store.pinned(), version})))


def unpin(store: ModelStore, version: int) -> None:
    """Let garbage collection have a version again. It need not be pinned.

    Raises:
        RolloutError: pins.json cannot be read.
    """
    with writing(store):
        store.pin_all(tuple(each for each in store.pinned() if each != version))
