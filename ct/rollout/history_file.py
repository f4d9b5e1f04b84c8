"""A model's history on disk. An entry is on disk when the call that wrote it returns.

::

    models/<name>/
      history.jsonl   one HistoryEntry a line, appended
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.contracts import HistoryEntry
from ct.json_lines import JsonLines

if TYPE_CHECKING:
    from pathlib import Path


class HistoryFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._lines = JsonLines(folder / "history.jsonl", HistoryEntry)

    def entries(self) -> tuple[HistoryEntry, ...]:
        """Every change that was written, oldest first. Lines that cannot be read are left out."""
        return self._lines.read()

    def append(self, entry: HistoryEntry) -> None:
        """Add a change, unless it is there already."""
        newest = next(reversed(self.entries()), None)
        if newest is None or newest.generation < entry.generation:
            self._lines.append(entry)
