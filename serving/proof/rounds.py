"""p99 of two models in one service, side by side: short rounds that alternate, so that both meet the machine's same moods.

The p99 of a model is the median of its rounds', and a burst of other work on the machine, which spoils some rounds of either
model, does not move it. What is over the limit in some rounds only is measured a second time, longer, and that counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.proof.client import Client

WARM_REQUESTS = 50
ROUNDS, REQUESTS = 8, 100
"""Rounds a model, and requests a round: of a model that answers in 1 ms, 1.6 s for both."""
AGAIN = 3
"""Times as many rounds when the first ones are over the limit and do not leave it beyond doubt."""
ROUND_S, LEAST_REQUESTS = 0.5, 10
"""A round of a slow model ends earlier, after so long, but not before so many requests."""
FLOOR_S = 0.001
"""A champion that is faster counts as this fast: below, the ratio is one of the client's and the kernel's own time."""
LEVEL = 0.95
"""Of the interval of the difference, at least; few rounds give no choice but more."""
MS_A_S = 1000.0


@dataclass(frozen=True)
class Asked:
    """A model and the rows it is asked for, one a request."""

    client: Client
    bodies: Sequence[bytes]


@dataclass(frozen=True)
class Gain:
    """A median and its interval, in milliseconds."""

    median: float
    low: float
    high: float
    level: float
    """How surely the interval holds the true median."""


@dataclass(frozen=True)
class Latency:
    """p99 of each round, in seconds, in the order they ran."""

    candidate: tuple[float, ...]
    champion: tuple[float, ...]
    """Empty without a champion."""
    requests: int
    """Requests to each model."""

    @property
    def candidate_ms(self) -> float:
        return float(np.median(self.candidate)) * MS_A_S

    @property
    def champion_ms(self) -> float:
        return float(np.median(self.champion)) * MS_A_S

    def limit_ms(self, ratio: float) -> float:
        """The largest p99 that the candidate may have."""
        return ratio * max(self.champion_ms, FLOOR_S * MS_A_S)

    def is_surely_over(self, ratio: float) -> bool:
        """Whether even the candidate's best round is over the limit beside the champion's worst."""
        return min(self.candidate) > ratio * max(*self.champion, FLOOR_S)

    def gain_ms(self) -> Gain:
        """By how much the candidate is faster: the median over the rounds, with the sign test's interval."""
        gains = sorted((theirs - ours) * MS_A_S for ours, theirs in zip(self.candidate, self.champion, strict=True))
        left_out = 0
        while _covered(len(gains), left_out + 1) >= LEVEL:
            left_out += 1
        median = float(np.median(gains))
        return Gain(median, gains[left_out], gains[-1 - left_out], _covered(len(gains), left_out))


def measure(candidate: Asked, champion: Asked | None, ratio: float) -> Latency:
    """The p99 of both.

    Args:
        candidate: the version to prove.
        champion: what serves; None when nothing does.
        ratio: how many times the champion's p99 the candidate's may be.

    Raises:
        AnswerError: a request was not answered with a prediction.
    """
    for asked in (candidate, champion):
        for number in range(WARM_REQUESTS):
            if asked is not None:
                _timed(asked, number)
    latency = _alternate(candidate, champion, ROUNDS)
    if champion and latency.candidate_ms > latency.limit_ms(ratio) and not latency.is_surely_over(ratio):
        latency = _alternate(candidate, champion, AGAIN * ROUNDS)
    return latency


def _covered(rounds: int, left_out: int) -> float:
    """How surely the true median lies within all but the `left_out` smallest and largest of so many differences."""
    return 1.0 - 2.0 * sum(comb(rounds, beyond) for beyond in range(left_out + 1)) / 2.0**rounds


def _alternate(candidate: Asked, champion: Asked | None, rounds: int) -> Latency:
    took: dict[bool, list[float]] = {True: [], False: []}
    requests = 0
    for number in range(rounds):
        for is_candidate in (True, False) if number % 2 else (False, True):
            asked = candidate if is_candidate else champion
            if asked is not None:
                seconds = _round(asked)
                requests += len(seconds) if is_candidate else 0
                took[is_candidate].append(float(np.quantile(seconds, 0.99, method="higher")))
    return Latency(tuple(took[True]), tuple(took[False]), requests)


def _round(asked: Asked) -> list[float]:
    took: list[float] = []
    deadline = time.perf_counter() + ROUND_S
    while len(took) < REQUESTS and (len(took) < LEAST_REQUESTS or time.perf_counter() < deadline):
        took.append(_timed(asked, len(took)))
    return took


def _timed(asked: Asked, number: int) -> float:
    return asked.client.timed(asked.bodies[number % len(asked.bodies)])
