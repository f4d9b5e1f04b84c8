"""What a steady load saw, from vegeta's results."""

from __future__ import annotations

import base64
import csv
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

NS_A_MS, NS_A_S = 1e6, 1e9
WARM_UP_S = 1.0
"""Left out of the latencies, not of the failures: vegeta opens its connections all at once."""
WHOLE = 0.99
"""A last second that the load ended within is left out."""
VERSION_HEADER = "ct-model-version"


@dataclass(frozen=True)
class Steady:
    """What one attack saw; latencies without its first second."""

    requests: int
    failed: int
    """Answers other than 2xx and connections that broke."""
    a_second: float
    """The rate at which requests really went out."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    p99_ms_by_second: tuple[float, ...]
    """Of the requests sent in each whole second. Their median hardly moves when the machine itself pauses."""
    errors: tuple[str, ...]
    """What failed, each kind once."""
    by_version: dict[str, int]
    """Answers by the model version that gave them, of servers that say so."""


def summary(lines: Sequence[str]) -> Steady:
    """What vegeta's results say.

    Args:
        lines: of `vegeta encode -to=csv`: a line a request, in the order of their ends; the fields are start in ns, status,
            latency in ns, bytes out, bytes in, error, and last the answer's headers in base64.

    Raises:
        BenchError: no request was sent after the warm-up.
    """
    rows = list(csv.reader(lines))
    starts_ns = [int(row[0]) for row in rows]
    counted_from = min(starts_ns, default=0) + WARM_UP_S * NS_A_S
    by_second: dict[int, list[float]] = defaultdict(list)
    for row, start in zip(rows, starts_ns, strict=True):
        if start >= counted_from:
            by_second[int((start - counted_from) // NS_A_S)].append(int(row[2]) / NS_A_MS)
    latencies_ms = list(chain.from_iterable(by_second.values()))
    if not latencies_ms:
        raise BenchError("vegeta sent no request after its first second")
    if max(starts_ns) < counted_from + len(by_second) * NS_A_S * WHOLE and len(by_second) > 1:
        del by_second[max(by_second)]
    failed = [row for row in rows if not row[1].startswith("2")]
    versions = Counter(_version(row[-1]) for row in rows)
    return Steady(
        requests=len(rows),
        failed=len(failed),
        a_second=(len(rows) - 1) / (max(starts_ns) - min(starts_ns)) * NS_A_S,
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
        max_ms=max(latencies_ms),
        p99_ms_by_second=tuple(percentile(second, 99) for _, second in sorted(by_second.items())),
        errors=tuple(sorted({row[5] for row in failed})),
        by_version={version: count for version, count in sorted(versions.items()) if version},
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value that so many per cent of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _version(headers: str) -> str:
    """The model version that an answer names; empty where it names none."""
    for line in base64.b64decode(headers).decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == VERSION_HEADER:
            return value.strip()
    return ""
