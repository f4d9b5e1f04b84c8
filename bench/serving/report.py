"""The two tables, and results/serving.json."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.serving.servers import OURS
from bench.serving.steady import percentile
from bench.serving.turns import CONNECTIONS, LIMIT
from ct.cli.output import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.serving.alone import Shape, SingleConnection
    from bench.serving.flips import Flips
    from bench.serving.shadowed import Shadowed
    from bench.serving.steady import Steady
    from bench.serving.turns import Turns


@dataclass(frozen=True)
class Measured:
    """All of one run."""

    turns: Turns
    half_peak: Sequence[Steady]
    single_connection: SingleConnection
    shapes: Sequence[Shape]
    flips: Flips
    shadowed: Shadowed
    rounds: int
    seconds: int
    busy_percent: float
    """Use of the processors by others, before anything was started."""
    versions: Mapping[str, str]


def failures(measured: Measured) -> int:
    """Our failed requests in every measurement but the flips, which count their own."""
    return (
        measured.turns.failures(OURS)
        + sum(run.failed for run in measured.half_peak)
        + measured.single_connection.failures
        + sum(shape.failures for shape in measured.shapes)
        + sum(run.failed for pair in measured.shadowed.pairs for run in pair)
    )


def as_json(measured: Measured) -> dict[str, Any]:
    """What is written: ratios are ours over theirs, times are in milliseconds, memory is in MB."""
    turns, flips = measured.turns, measured.flips
    ours = turns.a_second(OURS)
    peers = [name for name in turns.peaks if name != OURS]
    return {
        "ratios": {
            **{name: _rounded(ours / turns.a_second(name)) if turns.a_second(name) else None for name in sorted(peers)},
            "model_limit": _rounded(ours / turns.limit_rows_a_second()),
        },
        "failures": failures(measured),
        "p99_ms_half_peak": _rounded(median(run.p99_ms for run in measured.half_peak)),
        "flip": {
            "flips": len(flips.flips_ms),
            "p50_ms": _rounded(percentile(flips.flips_ms, 50)),
            "p99_ms": _rounded(percentile(flips.flips_ms, 99)),
            "failed": flips.load.failed,
            "max_ms": _rounded(max(flips.flips_ms)),
            "load": _steady(flips.load),
            "command_p50_ms": _rounded(median(flips.commands_ms)),
            "command_max_ms": _rounded(max(flips.commands_ms)),
            "command_p50_ms_without_load": _rounded(median(flips.idle_commands_ms)),
        },
        "shadow": {
            "p99_ratio": _rounded(measured.shadowed.p99_ratio),
            "p99_ratio_interval": [_rounded(value) for value in measured.shadowed.p99_ratio_interval],
            "p99_ms_without": _rounded(measured.shadowed.p99_ms[0]),
            "p99_ms_with": _rounded(measured.shadowed.p99_ms[1]),
            "pairs": [[_rounded(run.p99_ms) for run in pair] for pair in measured.shadowed.pairs],
            "a_second": _rounded(measured.shadowed.pairs[0][0].a_second),
        },
        "servers": [_server(turns, name) for name in turns.peaks],
        "model_limit_rows_a_second": _rounded(turns.limit_rows_a_second()),
        "half_peak": [_steady(run) for run in measured.half_peak],
        "single_connection": {
            **{name: _rounded(value) for name, value in asdict(measured.single_connection).items()},
            "above_model_ms": _rounded(measured.single_connection.above_model_ms),
        },
        "shapes": [
            {name: _rounded(value) if isinstance(value, float) else value for name, value in asdict(shape).items()}
            for shape in measured.shapes
        ],
        "connections": CONNECTIONS,
        "rounds": measured.rounds,
        "seconds": measured.seconds,
        "versions": dict(measured.versions),
        "cores": os.cpu_count(),
        "busy_percent_before": _rounded(measured.busy_percent),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def print_tables(result: Mapping[str, Any]) -> None:
    """Both tables and what stands beside them, from what as_json made."""
    limit = result["model_limit_rows_a_second"]
    rows = [
        (
            server["name"],
            f"{server['requests_a_second']:,.0f}",
            f"{server['p50_ms']:.1f}",
            f"{server['p99_ms']:.1f}",
            server["failures"],
            f"{server['processor_ms_a_request']:.2f}",
            f"{server['resident_mb']:,.0f}",
            "1.0" if server["name"] == OURS else f"{result['ratios'][server['name']] or math.nan:.1f}",
            f"{server['requests_a_second'] / limit:.0%}",
        )
        for server in result["servers"]
    ]
    rows.append((LIMIT, f"{limit:,.0f}", "-", "-", "-", "-", "-", f"{result['ratios']['model_limit']:.2f}", "100%"))
    header = (
        "server",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "failed",
        "CPU ms/request",
        "memory MB",
        "ours/theirs",
        "of limit",
    )
    print_table(f"{result['connections']} connections, one row a request, one worker", header, rows)
    print_table("ours alone", ("what", "value"), _alone(result))
    flip = result["flip"]
    flipped: list[tuple[object, object]] = [
        ("rollbacks under load", flip["flips"]),
        ("load, requests/s", f"{flip['load']['a_second']:,.0f}"),
        ("p50 / p99 / longest, ms", f"{flip['p50_ms']:.1f} / {flip['p99_ms']:.1f} / {flip['max_ms']:.1f}"),
        ("requests meanwhile", f"{flip['load']['requests']:,}"),
        ("failed", flip["failed"]),
        ("answers by version", ", ".join(f"{name}: {count:,}" for name, count in flip["load"]["by_version"].items())),
        ("whole `ct rollback`, p50 ms", f"{flip['command_p50_ms']:.0f}"),
        ("the same without load, p50 ms", f"{flip['command_p50_ms_without_load']:.0f}"),
    ]
    print_table("rollback", ("what", "value"), flipped)


def _alone(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    single, shadow = result["single_connection"], result["shadow"]
    low, high = shadow["p99_ratio_interval"]
    return [
        ("p99 at half of peak, ms", f"{result['p99_ms_half_peak']:.1f}"),
        ("one connection p50, ms", f"{single['p50_ms']:.2f}"),
        ("the model's own p50 for one row, ms", f"{single['model_p50_ms']:.2f}"),
        ("above the model, ms", f"{single['above_model_ms']:.2f}"),
        *(
            (
                f"{shape['rows_a_request']:,} row(s) a request as {shape['format']}, rows/s",
                f"{shape['rows_a_second']:,.0f}",
            )
            for shape in result["shapes"]
        ),
        (
            f"p99 with a shadow over without, at {shadow['a_second']:,.0f} requests/s",
            f"{shadow['p99_ratio']:.2f} ({low:.2f} to {high:.2f})",
        ),
        ("failed, all measurements", str(result["failures"])),
    ]


def _server(turns: Turns, name: str) -> dict[str, Any]:
    runs = turns.peaks[name]
    return {
        "name": name,
        "requests_a_second": _rounded(turns.a_second(name)),
        "p50_ms": _rounded(median(run.p50_ms for run in runs)),
        "p99_ms": _rounded(median(run.p99_ms for run in runs)),
        "failures": turns.failures(name),
        "processor_ms_a_request": _rounded(median(turns.processor_ms[name])),
        "resident_mb": _rounded(turns.resident_mb[name]),
        "of_model_limit": _rounded(turns.a_second(name) / turns.limit_rows_a_second()),
        "requests_a_second_by_round": [_rounded(run.a_second) for run in runs],
    }


def _steady(run: Steady) -> dict[str, Any]:
    told = asdict(run)
    del told["p99_ms_by_second"]
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in told.items()}


def _rounded(value: float) -> float:
    """Three digits after the point, which is more than any of this is repeatable to."""
    return round(value, 3)
