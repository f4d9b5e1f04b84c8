"""A model's history on disk, and the note of a change that has begun. An entry is on disk when the call that wrote it returns.

::

    models/<name>/
      history.jsonl   one HistoryEntry a line, appended
      change.json     the HistoryEntry of a change that is under way, or whose command was ended before it was done
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import HistoryEntry
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct.contracts import DesiredState


class HistoryFile:
    """The two files in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._lines = folder / "history.jsonl"
        self._note = folder / "change.json"

    def entries(self, desired: DesiredState | None) -> tuple[HistoryEntry, ...]:
        """Every change, oldest first; the noted one too when it came to be desired. Lines that cannot be read are left out."""
        written = tuple(self._written())
        noted = self._noted()
        if noted is None or desired is None or noted.generation != desired.generation:
            return written
        return written if written and written[-1].generation >= noted.generation else (*written, noted)

    def append(self, entry: HistoryEntry) -> None:
        """Add a change, unless it is there already, and take its note away."""
        newest = next(reversed(tuple(self._written())), None)
        if newest is None or newest.generation < entry.generation:
            self._write(entry)
        self.forget_note()

    def note(self, entry: HistoryEntry) -> None:
        """Note a change that is about to be desired."""
        write_atomically(self._note, entry.model_dump_json())

    def settle(self, desired: DesiredState | None) -> None:
        """Append what an ended command noted, if it came to be desired. Only for the holder of the model's lock."""
        entries = self.entries(desired)
        if len(entries) > len(tuple(self._written())):
            self.append(entries[-1])
        self.forget_note()

    def forget_note(self) -> None:
        """Take the note away; there need not be one."""
        self._note.unlink(missing_ok=True)

    def _write(self, entry: HistoryEntry) -> None:
        torn = self._lines.exists() and not self._lines.read_bytes().endswith(b"\n")
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + entry.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _noted(self) -> HistoryEntry | None:
        """The note; None when there is none, or it cannot be read and so says nothing."""
        try:
            return HistoryEntry.model_validate_json(self._note.read_bytes())
        except (OSError, ValidationError):
            return None

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
