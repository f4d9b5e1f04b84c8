"""A model's history on disk. An entry is on disk when the call that wrote it returns.

::

    models/<name>/
      history.jsonl   one HistoryEntry a line, appended
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import HistoryEntry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class HistoryFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._lines = folder / "history.jsonl"

    def entries(self) -> tuple[HistoryEntry, ...]:
        """Every change that was written, oldest first. Lines that cannot be read are left out."""
        return tuple(self._written())

    def append(self, entry: HistoryEntry) -> None:
        """Add a change, unless it is there already."""
        newest = next(reversed(self.entries()), None)
        if newest is None or newest.generation < entry.generation:
            self._write(entry)

    def _write(self, entry: HistoryEntry) -> None:
        torn = self._lines.exists() and not self._lines.read_bytes().endswith(b"\n")
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + entry.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _written(self) -> Iterator[HistoryEntry]:
        try:
            content = self._lines.read_bytes()
        except FileNotFoundError:
            return
        # Not str.splitlines: a reason may hold U+2028 and others that it splits at.
        for line in content.split(b"\n"):
            try:
                yield HistoryEntry.model_validate_json(line)
            except ValidationError:
                continue  # cut off by a crash; the next change wrote on a line of its own
