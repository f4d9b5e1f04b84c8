"""What a shadow costs the champion's clients: the same steady load without and with one, in alternating pairs.

A shadow starts with each pair anew, so that what the machine does meanwhile hits both alike.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING

import httpx

from bench.errors import BenchError
from bench.serving.model import MODEL, SERVED, VERSIONS, change
from bench.serving.steady import percentile
from ct.rollout import plan_end, plan_shadow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.serving.steady import Steady
    from bench.serving.turns import Contestant
    from bench.serving.vegeta import Vegeta
    from ct.rollout import ModelStore

SHARE_OF_PEAK = 0.3
"""Little, because the load generator shares the cores."""
START_S, LOOK_S = 60.0, 0.25
RESAMPLES, SEED, PERCENT = 2000, 1, 95


@dataclass(frozen=True)
class Shadowed:
    """Pairs of runs, without a shadow and with one."""

    pairs: Sequence[tuple[Steady, Steady]]

    @property
    def p99_ms(self) -> tuple[float, float]:
        """Without and with a shadow: the median over all seconds of the p99 of each."""
        return _p99s(self.pairs)

    @property
    def p99_ratio(self) -> float:
        """With a shadow over without."""
        without, with_shadow = self.p99_ms
        return with_shadow / without

    @property
    def p99_ratio_interval(self) -> tuple[float, float]:
        """Of PERCENT per cent, by resampling the pairs."""
        draw = random.Random(SEED)  # noqa: S311  statistics, not secrets
        ratios = []
        for _ in range(RESAMPLES):
            without, with_shadow = _p99s(draw.choices(self.pairs, k=len(self.pairs)))
            ratios.append(with_shadow / without)
        return percentile(ratios, (100 - PERCENT) / 2), percentile(ratios, (100 + PERCENT) / 2)


def shadow(
    ours: Contestant,
    store: ModelStore,
    vegeta: Vegeta,
    *,
    peak_a_second: float,
    count: int,
    seconds: int,
    say: Callable[[str], None],
) -> Shadowed:
    """Measure pairs; which of the two comes first changes from pair to pair.

    Raises:
        RolloutError: a worker did not take the shadow.
        BenchError: the shadow did not start, or vegeta failed.
    """
    rate = max(1, round(SHARE_OF_PEAK * peak_a_second))
    (version,) = (version for version in VERSIONS if version != SERVED)
    pairs = []
    for number in range(count):
        runs: dict[bool, Steady] = {}
        for with_shadow in (False, True) if number % 2 == 0 else (True, False):
            if with_shadow:
                change(store, plan_shadow(MODEL, version, **store.facts(len(VERSIONS))), "to be measured")
                _await_shadow(ours)
            runs[with_shadow] = vegeta.attack(ours.url, ours.bodies, rate=rate, seconds=seconds)
            if with_shadow:
                change(store, plan_end(MODEL, **store.facts(len(VERSIONS))), "to be measured")
        pairs.append((runs[False], runs[True]))
        say(
            f"shadow, pair {number + 1} of {count}: {rate} requests/s, p99 {runs[False].p99_ms:.1f} ms without, "
            f"{runs[True].p99_ms:.1f} ms with"
        )
    return Shadowed(pairs)


def _await_shadow(ours: Contestant) -> None:
    """Until the shadow's process has predicted what it was given, its start included."""
    body = ours.bodies.read_text(encoding="utf-8").splitlines()[0]
    metrics = httpx.URL(ours.url).join("/metrics")
    with httpx.Client() as client:
        before = _shadow_requests(client, metrics)
        client.post(ours.url, content=body, headers={"content-type": "application/json"}).raise_for_status()
        until = time.monotonic() + START_S
        while _shadow_requests(client, metrics) == before:
            if time.monotonic() > until:
                raise BenchError(f"the shadow predicted nothing within {START_S:g} s")
            time.sleep(LOOK_S)


def _shadow_requests(client: httpx.Client, metrics: httpx.URL) -> float:
    lines = client.get(metrics).raise_for_status().text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("ct_requests_total{") and 'variant="shadow"' in line
    )


def _p99s(pairs: Sequence[tuple[Steady, Steady]]) -> tuple[float, float]:
    without, with_shadow = (
        median(chain.from_iterable(run.p99_ms_by_second for run in runs)) for runs in zip(*pairs, strict=True)
    )
    return without, with_shadow
