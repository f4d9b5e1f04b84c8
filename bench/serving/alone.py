"""Ours alone: latency at half of its peak, one connection against the model's own time, and requests of many rows."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.serving import bodies
from bench.serving.turns import CONNECTIONS
from bench.serving.wrk import peak

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.serving.limit import Direct
    from bench.serving.model import Trained
    from bench.serving.steady import Steady
    from bench.serving.turns import Contestant
    from bench.serving.vegeta import Vegeta

HALF = 0.5
REPEATS = 3
"""Runs of each measurement, the median counts."""
STEADY_REPEATS, STEADY_LONGER = 5, 3
"""Runs at half of peak, and how many times longer they are: one pause of the machine of 50 ms decides the p99 of 5 s."""
MANY_ROWS = 1000
MANY_CONNECTIONS = 4
"""Enough to keep it busy. What wrk leaves unanswered at its end is still predicted when the next run begins, and twice 16
requests of so many rows are more than may wait (`serving_max_waiting_rows`)."""
SHAPES = (
    ("rows", bodies.instances, 1, CONNECTIONS),
    ("columns", bodies.columns, 1, CONNECTIONS),
    ("rows", bodies.instances, MANY_ROWS, MANY_CONNECTIONS),
    ("columns", bodies.columns, MANY_ROWS, MANY_CONNECTIONS),
)


@dataclass(frozen=True)
class SingleConnection:
    """One connection, one row a request, in turns with the signature called directly."""

    p50_ms: float
    model_p50_ms: float
    failures: int

    @property
    def above_model_ms(self) -> float:
        return self.p50_ms - self.model_p50_ms


@dataclass(frozen=True)
class Shape:
    """Requests of one shape."""

    format: str
    rows_a_request: int
    connections: int
    rows_a_second: float
    p50_ms: float
    p99_ms: float
    failures: int


def half_peak(
    ours: Contestant, vegeta: Vegeta, *, peak_a_second: float, seconds: int, say: Callable[[str], None]
) -> tuple[Steady, ...]:
    """Runs at half of the peak rate."""
    rate = max(1, round(HALF * peak_a_second))
    runs = []
    for number in range(STEADY_REPEATS):
        runs.append(vegeta.attack(ours.url, ours.bodies, rate=rate, seconds=seconds * STEADY_LONGER))
        say(f"half of peak, run {number + 1} of {STEADY_REPEATS}: {rate} requests/s, p99 {runs[-1].p99_ms:.1f} ms")
    return tuple(runs)


def single_connection(
    ours: Contestant, direct: Direct, *, wrk: str, seconds: int, say: Callable[[str], None]
) -> SingleConnection:
    """One connection's latency, and the model's own."""
    served, called, failures = [], [], 0
    half = max(1, seconds // 2)
    for _ in range(REPEATS):
        run = peak(wrk, ours.url, ours.bodies, connections=1, seconds=half)
        served.append(run.p50_ms)
        failures += run.failures
        called.append(direct.call(rows=1, seconds=half).p50_ms)
    found = SingleConnection(median(served), median(called), failures)
    say(f"one connection: p50 {found.p50_ms:.2f} ms, the model itself {found.model_p50_ms:.2f} ms")
    return found


def shapes(
    ours: Contestant, model: Trained, folder: Path, *, wrk: str, seconds: int, say: Callable[[str], None]
) -> Sequence[Shape]:
    """Columnar input, and many rows a request."""
    features, rows = model.manifest().features, model.examples()["instances"]
    found = []
    for name, body, size, connections in SHAPES:
        path = bodies.write(folder / f"{name}-{size}.lines", body, features, rows, rows_a_request=size)
        run = peak(wrk, ours.url, path, connections=connections, seconds=seconds)
        found.append(Shape(name, size, connections, run.a_second * size, run.p50_ms, run.p99_ms, run.failures))
        say(f"{size:,} row(s) a request as {name}: {found[-1].rows_a_second:,.0f} rows/s")
    return found
