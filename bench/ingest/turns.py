"""Alternating turns of both on files of real flights, and ours at three sizes; each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.ingest.places import RUN
from bench.serving.process import clean_environment
from ct.home import Home
from ct.planes import PROJECT, Plane, python
from ct.settings import Settings
from ct.sources.arrival import sha256_of
from ct.worker.environment import training_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

OURS, THEIRS = "ct", "CsvExampleGen"
LONGEST_S = 1200.0


@dataclass(frozen=True)
class Run:
    """One file, encoded once."""

    rows: int
    seconds: float
    """Without Python's start and imports."""
    processor_s: float
    imports_mb: float
    """Resident memory before it began."""
    peak_mb: float
    """The most resident memory above that."""

    @property
    def rows_a_second(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True)
class Measured:
    """All runs."""

    rows: int
    """Of the file that both have read."""
    runs: Mapping[str, Sequence[Run]]
    """Of all turns, in their order."""
    sizes: Mapping[int, Run]
    """Ours, by rows."""
    busy_percent: float

    def rows_a_second(self, name: str) -> float:
        """The median of a contestant's runs on the common file."""
        return median(run.rows_a_second for run in self.runs[name] if run.rows == self.rows)


def measure(
    files: Mapping[int, Path],
    turns: Sequence[tuple[str, int]],
    sizes: Sequence[int],
    *,
    rows: int,
    busy_percent: float,
    say: Callable[[str], None],
) -> Measured:
    """Take the turns, then the sizes.

    Args:
        files: rows -> a CSV file.
        turns: who, and on how many rows.
        sizes: rows.
        rows: of the file that the ratio is of.
        busy_percent: kept in the result.
        say: told what goes on.

    Raises:
        BenchError: a process failed, or lost rows.
    """
    runs: dict[str, list[Run]] = defaultdict(list)
    for number, (name, of) in enumerate(turns, start=1):
        runs[name].append(_run(name, files[of], of))
        told = runs[name][-1]
        say(
            f"turn {number} of {len(turns)}: {name}, {of:,} rows in {told.seconds:.1f} s, {told.rows_a_second:,.0f} rows/s"
        )
    by_size: dict[int, Run] = {}
    for of in sizes:
        by_size[of] = _run(OURS, files[of], of)
        say(f"{of:,} rows: {by_size[of].peak_mb:.0f} MB above what is loaded, {by_size[of].seconds:.1f} s")
    return Measured(rows, runs, by_size, busy_percent)


def _run(name: str, path: Path, rows: int) -> Run:
    folder = RUN / "out"
    shutil.rmtree(folder, ignore_errors=True)
    module, arguments = ("ours", [sha256_of(path)]) if name == OURS else ("theirs", [])
    home = Home(RUN / "home")
    command = [str(python(Plane.TRAINING)), "-m", f"bench.ingest.{module}", str(path), *arguments, str(folder)]
    environment = {**clean_environment(), **training_environment(home, Settings())}
    log = RUN / f"{module}.log"
    with log.open("wb") as errors:
        done = subprocess.run(
            command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=errors, timeout=LONGEST_S, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
        raise BenchError(f"{name} exited with {done.returncode} on {path.name}:\n{tail}")
    run = Run(**json.loads(done.stdout.decode().splitlines()[-1]))
    if run.rows != rows:
        raise BenchError(f"{name} made {run.rows:,} examples of {rows:,} rows")
    return run
