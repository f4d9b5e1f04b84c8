"""`python -m bench.ingest`: write the files, measure, print the tables and write results/ingest.json."""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import psutil

from bench.ingest import report
from bench.ingest.flights import flights_files
from bench.ingest.places import INGEST, RESULTS, RUN
from bench.ingest.turns import OURS, THEIRS, measure
from bench.serving.errors import BenchError
from bench.serving.places import BENCH
from ct.errors import CTError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROWS, FEWER_ROWS = 1_000_000, 300_000
"""Both read the first, on which CsvExampleGen takes some three minutes; its second turn is on the other."""
SIZES = (100_000, 1_000_000, 3_000_000)
QUICK_ROWS, QUICK_SIZES = 20_000, (10_000, 20_000)
QUICK_RESULTS = INGEST / "quick.json"
BUSY_LOOK_S, BUSY_PERCENT = 1.0, 10.0
"""How long the machine is looked at beforehand, and the use of its processors above which it is called busy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all of it; 0 when every measurement was made, whatever it says."""
    asked = _parse(arguments)
    began = time.monotonic()
    BENCH.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, _end)

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - began:4.0f} s] {line}")

    rows, fewer = (QUICK_ROWS, QUICK_ROWS) if asked.quick else (ROWS, FEWER_ROWS)
    sizes = QUICK_SIZES if asked.quick else SIZES
    turns = ((OURS, rows), (THEIRS, rows), (OURS, rows), (THEIRS, fewer))
    try:
        with _alone():
            busy_percent = psutil.cpu_percent(BUSY_LOOK_S)
            if busy_percent > BUSY_PERCENT:
                say(f"other processes use {busy_percent:.0f} % of this machine")
            files = flights_files(sorted({rows, fewer, *sizes}), say)
            shutil.rmtree(RUN, ignore_errors=True)
            RUN.mkdir(parents=True)
            result = report.as_json(measure(files, turns, sizes, rows=rows, busy_percent=busy_percent, say=say))
            shutil.rmtree(RUN / "out", ignore_errors=True)
    except (BenchError, CTError, subprocess.TimeoutExpired) as error:
        click.echo(f"The benchmark stopped: {error}\nLogs are in {RUN}.", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("The benchmark was interrupted; what it had started is ended, and no result was written.", err=True)
        return 130
    write_atomically(asked.out, json.dumps(result, indent=2) + "\n")
    report.print_tables(result)
    click.echo(f"written to {asked.out}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description="See docs/benchmarks.md.")
    quick = f"{QUICK_ROWS:,} rows, to see that all of it runs; writes .bench/ingest/quick.json"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, help="where the JSON goes, by default bench/results/ingest.json")
    asked = parser.parse_args(arguments)
    asked.out = (asked.out or (QUICK_RESULTS if asked.quick else RESULTS)).resolve()
    return asked


@contextmanager
def _alone() -> Iterator[None]:
    """One benchmark of a checkout at a time, this one or another.

    Raises:
        BenchError: another one runs.
    """
    with (BENCH / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError("another one runs in this checkout") from error
        yield


def _end(_number: int, _frame: object) -> NoReturn:
    """SIGTERM goes the way of Ctrl-C: what was started is ended."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
