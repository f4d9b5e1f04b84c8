"""How long a file that has landed waits for its run: from the rename into place to Airflow's queue, on the whole stack."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BenchError
from bench.ingest.places import RUN
from ct.home import Home
from ct.planes import PROJECT
from demo.story import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PIPELINE = "flights"
LOOK_S, RUN_S = 0.2, 120.0


@dataclass(frozen=True)
class Queued:
    """Seconds of each landing."""

    seconds: Sequence[float]

    def percentile(self, percent: float) -> float:
        """A percentile, in seconds."""
        return float(np.percentile(self.seconds, percent))


def measure(landings: int, say: Callable[[str], None]) -> Queued:
    """Land files one by one, each when the run before has ended.

    They hold no rows, so that a run ends at its first node: what is measured happens before that. They are renamed into
    place, so the pipeline waits for no settling.

    Raises:
        BenchError: a file's run was not queued, or did not end, within two minutes.
    """
    stage = Stage(Home(RUN / "stack"))
    waited: list[float] = []
    try:
        stage.ct("up", "--detach")
        stage.ct("deploy", str(_pipeline()))
        folder = stage.home.landing / PIPELINE
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(landings):
            landed = _land(folder, number)
            queued = _await_queued(stage.home, number)
            waited.append(queued - landed)
    finally:
        stage.ct("down")
    told = Queued(tuple(waited))
    say(f"{landings} landings: queued after {told.percentile(50):.2f} s, 95 % within {told.percentile(95):.2f} s")
    return told


def _pipeline() -> Path:
    folder = RUN / "pipelines" / PIPELINE
    shutil.copytree(PROJECT / "pipelines" / PIPELINE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "pipeline.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("*.parquet", "*.csv")
        .replace("settle_s: 2", "settle_s: 0")
        .replace("  schedule:", "  # schedule:"),
        encoding="utf-8",
    )
    return folder


def _land(folder: Path, number: int) -> float:
    """The moment of the rename, in seconds since the epoch."""
    hidden = folder / f".span-{number:03}"
    hidden.write_text(f"no header of flights {number}\n", encoding="utf-8")
    landed = time.time()
    os.rename(hidden, folder / f"span-{number:03}.csv")  # noqa: PTH104  one system call between two clock reads
    return landed


def _await_queued(home: Home, earlier: int) -> float:
    """When the next run was queued, once it has ended."""
    until = time.monotonic() + RUN_S
    while time.monotonic() < until:
        runs = _runs(home)
        if len(runs) > earlier and runs[earlier][1] in ("success", "failed"):
            return runs[earlier][0]
        time.sleep(LOOK_S)
    raise BenchError(f"the run of landing {earlier + 1} was not queued, or did not end, within {RUN_S:.0f} s")


def _runs(home: Home) -> list[tuple[float, str]]:
    """Queued when, in seconds since the epoch, and state of each run, from Airflow's own table."""
    with closing(sqlite3.connect(f"file:{home.airflow / 'airflow.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT queued_at, state FROM dag_run WHERE dag_id = ? AND queued_at IS NOT NULL ORDER BY queued_at",
            (PIPELINE,),
        ).fetchall()
    return [(_epoch(queued_at), state) for queued_at, state in rows]


def _epoch(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
