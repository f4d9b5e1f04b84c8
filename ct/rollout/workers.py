"""The files in which serving workers say that they run and what they have loaded.

::

    models/
      .workers/<pid>.json         a worker runs, whatever it has loaded
      <name>/workers/<pid>.json   what it has loaded of one model
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from ct.contracts import WorkerState
from ct.home import write_atomically
from ct.rollout.process import started_at

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ct.home import Home

PRESENCE = ".workers"
REPORTS = "workers"
FILES = "[0-9]*.json"
SAME_START_S = 5.0
"""A pid whose process began this close to what the worker wrote is that worker; the kernel's clock has ticks of 10 ms, and the
boot time that it is counted from may be corrected."""


def live_workers(model: Path) -> tuple[WorkerState, ...]:
    """What each serving worker that runs now has loaded of the model in this folder.

    A worker that runs and has not dealt with this model yet counts too, with generation 0. Files of workers that have ended,
    and files that cannot be read, do not count.
    """
    found: dict[int, WorkerState] = {}
    for folder in (model.parent / PRESENCE, model / REPORTS):
        for path in sorted(folder.glob(FILES)):
            began = _process_began(path)
            worker = _read(path) if began else None
            if began and worker and _is_same(began, worker):
                found[worker.pid] = worker
    return tuple(found.values())


def report_worker(model: Path, state: WorkerState) -> None:
    """Say what a serving worker has loaded of the model in this folder; called by that worker."""
    write_atomically(model / REPORTS / f"{state.pid}.json", state.model_dump_json())


def announce_worker(home: Home, state: WorkerState) -> None:
    """Say that a serving worker runs; called by that worker as it starts, before it deals with any model.

    Files of workers that have ended are removed, and so is what an earlier process with this pid had loaded.
    """
    write_atomically(home.models / PRESENCE / f"{state.pid}.json", state.model_dump_json())
    for path in (*home.models.glob(f"{PRESENCE}/{FILES}"), *home.models.glob(f"*/{REPORTS}/{FILES}")):
        is_mine = path.stem == str(state.pid) and path.parent.name == REPORTS
        if not (is_mine or _has_ended(path)):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue  # whoever reads it sees that its process has ended; a worker must not fail to start for it


def _has_ended(path: Path) -> bool:
    """Whether the worker that wrote a file has ended. Of a file that cannot be read only the pid is known."""
    began = _process_began(path)
    worker = _read(path) if began else None
    return began is None or (worker is not None and not _is_same(began, worker))


def _process_began(path: Path) -> datetime | None:
    """When the process whose pid is a file's name began; None when there is none, and then nobody need read the file."""
    return started_at(int(path.stem)) if path.stem.isdecimal() else None


def _read(path: Path) -> WorkerState | None:
    """The content; None when the file is not there any more or cannot be read."""
    try:
        worker = WorkerState.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return worker if path.stem == str(worker.pid) else None


def _is_same(began: datetime, worker: WorkerState) -> bool:
    """Whether the process that began then is the one that wrote the file, and not a later one with its pid."""
    return abs(began.timestamp() - worker.started_at.timestamp()) <= SAME_START_S
