"""The journal of a change: what it is to come to, and how far it has come. Whoever finds one can finish or undo the change.

::

    models/<name>/
      change.json   Journal: a change that is under way, or whose command was ended before it was done

Each step leaves one durable record, and where a step has an effect on disk the effect is the record:

=================  ================================================================
step               its record
=================  ================================================================
the plan           `change.json` with all that the change is to come to
Desire             `desired.json` with the change's generation
AwaitWorkers       the line of `history.jsonl`, which is written as soon as the workers hold the version
Remember           the same line
Quarantine         the record in `quarantine.json`
TellRegistry       MLflow's own; where that is down, `registry.behind`, which outlives the journal
a revert           `change.json` with `revert`, before it is desired
=================  ================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from ct.contracts import DesiredState, HistoryEntry, Value
from ct.home import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


class Journal(Value):
    """A change that has begun."""

    before: DesiredState | None
    after: DesiredState
    entry: HistoryEntry = Field(description="As the history will have it, but for the time.")
    revert: HistoryEntry | None = Field(default=None, description="Set once it is decided that the change is undone.")

    @property
    def reverted(self) -> DesiredState:
        """What a revert desires: all that was desired before, as a new generation.

        Raises:
            ValueError: no revert was decided, or there is nothing to go back to before the first rollout.
        """
        if self.before is None or self.revert is None:
            raise ValueError("this change is not reverted")
        return self.before.model_copy(update={"generation": self.revert.generation})

    def pending(self, desired: DesiredState | None) -> HistoryEntry | None:
        """The entry that belongs into the history for what is desired now; None when the change never came to be desired."""
        if desired is None:
            return None
        if desired.generation == self.after.generation:
            return self.entry
        if self.revert is not None and desired.generation == self.revert.generation:
            return self.revert
        return None


class JournalFile:
    """The file in one model's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "change.json"

    def read(self) -> Journal | None:
        """The journal; None when there is none, or it cannot be read and so says nothing."""
        try:
            return Journal.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, journal: Journal) -> None:
        """Replace the journal; it is on disk when this returns."""
        write_atomically(self._path, journal.model_dump_json())

    def clear(self) -> None:
        """Take the journal away; there need not be one."""
        self._path.unlink(missing_ok=True)
