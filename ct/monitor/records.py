"""What the monitor keeps of a model.

::

    monitor/
      lock                     held by the one monitor of a home
      <model>/
        canary/                the same of a canary, which is watched apart
        watch.json             Watched: the watch that is on and the counters; replaced atomically
        status.json            Status: what `ct monitor` shows; replaced atomically
        decisions.jsonl        Decided, a line each stage of each decision, appended
        pairs/<watch>/         rows that both versions predicted (ct.monitor.compared)
        outbox/                messages that are still to be sent (ct.monitor.notify)
"""

from __future__ import annotations

import shutil
from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field, ValidationError

from ct.contracts import Value
from ct.home import write_atomically
from ct.json_lines import JsonLines
from ct.monitor.decide import Action, Decision  # noqa: TC001  pydantic needs the classes at run time
from ct.monitor.signals import Signal  # noqa: TC001
from ct.monitor.watch import Watch, Watched

if TYPE_CHECKING:
    from pathlib import Path

KEPT_PAIRS = 3
Kind = TypeVar("Kind", bound=Value)


class Stage(str, Enum):
    """How far a decision has come."""

    DECIDED = "decided"
    FAILED = "failed"
    """One try failed; there will be another."""
    DONE = "done"
    MOOT = "moot"
    """Somebody was faster: what was to be withdrawn does not answer any more, and not because of the monitor."""
    GAVE_UP = "gave up"


class Decided(Value):
    """One line of decisions.jsonl."""

    id: str = Field(description="Watch, action and subject; a decision has one id through all its stages.")
    stage: Stage
    at: datetime
    action: Action
    subject: Literal["version", "world"] = "version"
    generation: int = Field(default=0, description="Of the watch; 0 in lines from before it was on record.")
    new: int
    previous: int | None
    reason: str
    detail: str = Field(default="", description="What came of it.")
    signals: tuple[Signal, ...] = Field(default=(), description="With the stage `decided`: what it rests on.")


class Status(Value):
    """What the monitor does with one model now."""

    model: str
    at: datetime
    watch: Watch | None
    signals: tuple[Signal, ...] = ()
    decision: Decision
    problems: tuple[str, ...] = Field(
        default=(), description="What it cannot see or do at the moment, a sentence each."
    )


class Records:
    """The files of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = JsonLines(folder / "decisions.jsonl", Decided)

    def watched(self) -> Watched | None:
        """What was known at the last look; None before the first, or when the file is damaged and one begins anew."""
        return _read(self.folder / "watch.json", Watched)

    def keep(self, watched: Watched) -> None:
        """Replace it."""
        write_atomically(self.folder / "watch.json", watched.model_dump_json())

    def status(self) -> Status | None:
        """What the monitor last said; None when it never looked at this model."""
        return _read(self.folder / "status.json", Status)

    def say(self, status: Status) -> None:
        """Replace it."""
        write_atomically(self.folder / "status.json", status.model_dump_json())

    def pairs(self, watch: Watch) -> Path:
        """Where the pairs of a watch are."""
        return self.folder / "pairs" / watch.id

    def forget_old_pairs(self) -> None:
        """Remove the pairs of all watches but the newest few, which a person may want to look at."""
        for folder in sorted((self.folder / "pairs").glob("*"))[:-KEPT_PAIRS]:
            shutil.rmtree(folder)

    def decisions(self) -> tuple[Decided, ...]:
        """Every line, oldest first; one that a crash cut off is left out."""
        return self._lines.read()

    def note(self, line: Decided) -> None:
        """Add a line; on disk when this returns."""
        self._lines.append(line)


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
