"""Whether the registry's alias is still to be moved: MLflow was down, or a change was cut short before it came to that.

::

    models/<name>/
      alias.behind   there while the alias is not known to name the version that serves
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.home import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


class AliasFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alias.behind"

    @property
    def is_behind(self) -> bool:
        """Whether the alias is to be moved yet."""
        return self._path.exists()

    def note_behind(self) -> None:
        """Note that it is; on disk when this returns."""
        if not self.is_behind:
            write_atomically(self._path, "")

    def note_right(self) -> None:
        """Note that it has been moved."""
        self._path.unlink(missing_ok=True)
