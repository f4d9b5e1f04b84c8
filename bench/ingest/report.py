"""The tables, and results/ingest.json."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

from bench.ingest.turns import OURS, THEIRS
from ct.cli.output import print_table
from ct.planes import Plane, requirements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.ingest.queued import Queued
    from bench.ingest.turns import Measured, Run

PACKAGES = ("tfx", "tensorflow", "apache-beam", "pyarrow")


def as_json(measured: Measured, queued: Queued) -> dict[str, Any]:
    """What is written: the ratio is our rows/s over theirs on the same file, memory is in MB."""
    ours, theirs = measured.rows_a_second(OURS), measured.rows_a_second(THEIRS)
    return {
        "rows": measured.rows,
        "ratio": round(ours / theirs, 3),
        "peak_mb": {str(rows): round(run.peak_mb, 1) for rows, run in measured.sizes.items()},
        "peak_mb_is": "the most resident memory of our process above what it had loaded before it began (imports_mb)",
        "rows_a_second": {OURS: round(ours), THEIRS: round(theirs)},
        "runs": {name: [_run(run) for run in runs] for name, runs in measured.runs.items()},
        "sizes": [_run(run) for run in measured.sizes.values()],
        "queued": {
            "landings": len(queued.seconds),
            "p50_s": round(queued.percentile(50), 3),
            "p95_s": round(queued.percentile(95), 3),
            "is": "from the rename into the landing folder to Airflow's queued_at, on the whole stack",
        },
        "versions": {"ct": metadata.version("ct"), **_pins()},
        "cores": os.cpu_count(),
        "busy_percent_before": round(measured.busy_percent, 1),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def print_tables(result: Mapping[str, Any]) -> None:
    """Both tables, from what as_json made."""
    rows = [
        (
            name,
            f"{run['rows']:,}",
            f"{run['seconds']:.1f}",
            f"{run['rows_a_second']:,}",
            f"{run['processor_s']:.1f}",
            f"{run['peak_mb']:,.0f}",
        )
        for name, runs in result["runs"].items()
        for run in runs
    ]
    header = ("who", "rows", "seconds", "rows/s", "CPU s", "peak MB")
    print_table(f"read, check, encode; ours/theirs {result['ratio']:.1f} at {result['rows']:,} rows", header, rows)
    sizes = [(f"{run['rows']:,}", f"{run['peak_mb']:,.0f}", f"{run['imports_mb']:,.0f}") for run in result["sizes"]]
    print_table("our memory", ("rows", "peak MB above what is loaded", "loaded MB"), sizes)
    queued = result["queued"]
    row = (str(queued["landings"]), f"{queued['p50_s']:.2f}", f"{queued['p95_s']:.2f}")
    print_table("from landing to Airflow's queue", ("landings", "p50 s", "p95 s"), [row])


def _run(run: Run) -> dict[str, Any]:
    told = {name: round(value, 3) for name, value in asdict(run).items()}
    return {**told, "rows_a_second": round(run.rows_a_second)}


def _pins() -> dict[str, str]:
    lines = requirements(Plane.TRAINING).read_text(encoding="utf-8").splitlines()
    pins = dict(line.split()[0].split("==", 1) for line in lines if "==" in line and not line.startswith((" ", "#")))
    return {name: pins[name] for name in PACKAGES}
