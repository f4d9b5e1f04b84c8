"""Alternating turns: in each round every server has its turn, in an order that rotates, while all others are paused.

What else the machine does hits all of them alike, and the median over the rounds leaves out what hit one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.serving.limit import ROWS_A_CALL, Calls
from bench.serving.wrk import Peak, peak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.serving.limit import Direct
    from bench.serving.process import Launched

CONNECTIONS = 16
WARM_UP_S = 1
"""Before each turn, not measured: a process that was paused finds its caches cold."""
LIMIT = "the model itself"
MS_A_S = 1e3


@dataclass(frozen=True)
class Contestant:
    """A server that runs, and what it is sent."""

    name: str
    launched: Launched
    url: str
    bodies: Path


@dataclass(frozen=True)
class Turns:
    """What all rounds came to."""

    peaks: Mapping[str, Sequence[Peak]]
    """Server -> a run a round."""
    warm_up_failures: Mapping[str, int]
    limit: Sequence[Calls]
    """The signature called with 16 rows at a time, a turn a round."""
    resident_mb: Mapping[str, float]
    """Server -> memory after its last turn."""
    processor_ms: Mapping[str, Sequence[float]]
    """Server -> processor time a request, a value a round. What else the machine does changes it least."""

    def a_second(self, name: str) -> float:
        """The median of a server's successful requests a second."""
        return median(run.a_second for run in self.peaks[name])

    def failures(self, name: str) -> int:
        """A server's failed requests in all its runs, warm-up included."""
        return sum(run.failures for run in self.peaks[name]) + self.warm_up_failures[name]

    def limit_rows_a_second(self) -> float:
        """The median of the model's own limit."""
        return median(calls.rows_a_second for calls in self.limit)


def take_turns(
    contestants: Sequence[Contestant],
    direct: Direct,
    *,
    wrk: str,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> Turns:
    """Measure all servers and the model itself. The servers are paused before and after.

    Raises:
        BenchError: wrk or the process that calls the model failed.
    """
    peaks: dict[str, list[Peak]] = defaultdict(list)
    warm_up_failures: dict[str, int] = defaultdict(int)
    limit: list[Calls] = []
    resident_mb: dict[str, float] = {}
    processor_ms: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        order: list[Contestant | None] = [*contestants, None]
        for contestant in order[number % len(order) :] + order[: number % len(order)]:
            where = f"round {number + 1} of {rounds}"
            if contestant is None:
                limit.append(direct.call(rows=ROWS_A_CALL, seconds=seconds))
                say(f"{where}: {LIMIT}, {limit[-1].rows_a_second:,.0f} rows/s")
                continue
            name = contestant.name
            load = (wrk, contestant.url, contestant.bodies)
            with running(contestant):
                warm = peak(*load, connections=CONNECTIONS, seconds=WARM_UP_S)
                spent_s = contestant.launched.processor_s()
                run = peak(*load, connections=CONNECTIONS, seconds=seconds)
                spent_s = contestant.launched.processor_s() - spent_s
                resident_mb[name] = contestant.launched.resident_mb()
            processor_ms[name].append(spent_s / run.requests * MS_A_S if run.requests else math.nan)
            warm_up_failures[name] += warm.failures
            peaks[name].append(run)
            failed = f", {run.failures} failed" if run.failures else ""
            say(f"{where}: {name}, {run.a_second:,.0f} requests/s, p99 {run.p99_ms:.1f} ms{failed}")
    return Turns(peaks, warm_up_failures, limit, resident_mb, processor_ms)


@contextmanager
def running(contestant: Contestant) -> Iterator[None]:
    """Let one paused server run for the time of the block."""
    contestant.launched.resume()
    try:
        yield
    finally:
        contestant.launched.pause()
