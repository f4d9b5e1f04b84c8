"""`python -m bench.ingest`: write the files, measure, print the tables and write results/ingest.json."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import command
from bench.ingest import queued, report
from bench.ingest.flights import flights_files
from bench.ingest.places import INGEST, RESULTS, RUN
from bench.ingest.turns import OURS, THEIRS, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROWS, FEWER_ROWS = 1_000_000, 300_000
"""Both read the first, on which CsvExampleGen takes some three minutes; its second turn is on the other."""
SIZES = (100_000, 1_000_000, 3_000_000)
LANDINGS = 20
QUICK_ROWS, QUICK_SIZES, QUICK_LANDINGS = 20_000, (10_000, 20_000), 2
QUICK_RESULTS = INGEST / "quick.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all of it; 0 when every measurement was made, whatever it says."""
    asked = _parse(arguments)
    return command.run(lambda say: _measure(asked, say), report.print_tables, asked.out, RUN)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description="See docs/benchmarks.md.")
    quick = f"{QUICK_ROWS:,} rows, to see that all of it runs; writes .bench/ingest/quick.json"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, help="where the JSON goes, by default bench/results/ingest.json")
    asked = parser.parse_args(arguments)
    asked.out = (asked.out or (QUICK_RESULTS if asked.quick else RESULTS)).resolve()
    return asked


def _measure(asked: argparse.Namespace, say: Callable[[str], None]) -> Mapping[str, Any]:
    rows, fewer = (QUICK_ROWS, QUICK_ROWS) if asked.quick else (ROWS, FEWER_ROWS)
    sizes = QUICK_SIZES if asked.quick else SIZES
    turns = ((OURS, rows), (THEIRS, rows), (OURS, rows), (THEIRS, fewer))
    busy_percent = command.busy_percent(say)
    files = flights_files(sorted({rows, fewer, *sizes}), say)
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True)
    measured = measure(files, turns, sizes, rows=rows, busy_percent=busy_percent, say=say)
    shutil.rmtree(RUN / "out", ignore_errors=True)
    result = report.as_json(measured, queued.measure(QUICK_LANDINGS if asked.quick else LANDINGS, say))
    shutil.rmtree(RUN / "stack", ignore_errors=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
