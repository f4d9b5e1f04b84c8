"""p99 beside the champion's: what a noisy machine must not change, and what must be found."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from serving.proof import rounds
from serving.proof.rounds import Asked, measure

if TYPE_CHECKING:
    from collections.abc import Callable

RATIO = 2.0


class Answering:
    """A client whose answers take what `seconds` says; it counts them."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds = seconds
        self.requests = 0

    def timed(self, body: bytes) -> float:
        """Seconds of the next answer."""
        self.requests += 1
        return self.seconds(self.requests)


def asked(seconds: Callable[[int], float]) -> Asked:
    """A model with such a client."""
    return Asked(Answering(seconds), [b"{}"])  # type: ignore[arg-type]


def steady(mean_s: float, seed: int) -> Callable[[int], float]:
    """Times around a mean, with a tail."""
    numbers = random.Random(seed)  # noqa: S311  no secret
    return lambda _: mean_s * (0.8 + numbers.expovariate(5))


def bursts(mean_s: float, seed: int, *, every: int, length: int) -> Callable[[int], float]:
    """The same, with stretches in which something else has the processor."""
    calm = steady(mean_s, seed)
    return lambda number: calm(number) * (20 if number % every < length else 1)


def test_equal_models_stay_within_the_limit() -> None:
    """200 pairs of equal models, none over twice the champion's p99."""
    over = 0
    for seed in range(200):
        latency = measure(asked(steady(0.002, seed)), asked(steady(0.002, seed + 10_000)), RATIO)
        over += latency.candidate_ms > latency.limit_ms(RATIO)
    assert over == 0


def test_bursts_that_spoil_a_quarter_of_the_rounds_do_not_count() -> None:
    """Another process's work falls into single rounds; the median is of the others."""
    noisy = asked(bursts(0.002, 1, every=400, length=40))
    latency = measure(noisy, asked(steady(0.002, 2)), RATIO)
    assert max(latency.candidate) > 0.02
    assert latency.candidate_ms == pytest.approx(latency.champion_ms, rel=0.3)


def test_a_slower_model_is_found() -> None:
    """Three times the champion's times is over the limit of two."""
    latency = measure(asked(steady(0.006, 1)), asked(steady(0.002, 2)), RATIO)
    assert latency.candidate_ms > latency.limit_ms(RATIO)
    assert latency.gain_ms().high < 0


def test_interval_of_the_difference_is_the_sign_tests() -> None:
    """Of 24 rounds the six smallest and largest are left out, of 8 none: the levels are those of the binomial distribution."""
    many = rounds.Latency(tuple(float(number) for number in range(24)), (23.0,) * 24, 2400).gain_ms()
    assert (many.low, many.median, many.high) == (6000, 11500, 17000)
    assert many.level == pytest.approx(0.9773, abs=1e-4)
    few = rounds.Latency(tuple(float(number) for number in range(8)), (7.0,) * 8, 800).gain_ms()
    assert (few.low, few.high, few.level) == (0, 7000, 1 - 2 / 2**8)


def test_what_is_beyond_doubt_is_not_measured_again() -> None:
    """Ten times the champion's times, in each round."""
    latency = measure(asked(steady(0.02, 1)), asked(steady(0.002, 2)), RATIO)
    assert len(latency.candidate) == rounds.ROUNDS


def test_what_is_over_the_limit_is_measured_again_longer() -> None:
    """A machine that was busy for most of the first rounds gets a second chance; what counts is the longer measurement."""
    busy = rounds.WARM_REQUESTS + (rounds.ROUNDS - 1) * rounds.REQUESTS
    calm = steady(0.002, 1)
    candidate = asked(lambda number: calm(number) * (10 if number <= busy else 1))
    latency = measure(candidate, asked(steady(0.002, 2)), RATIO)
    assert latency.candidate_ms <= latency.limit_ms(RATIO)
    assert len(latency.candidate) == rounds.AGAIN * rounds.ROUNDS


def test_below_the_floor_a_ratio_says_nothing() -> None:
    """1.5 ms beside 0.2 ms is no reason to refuse a version."""
    latency = measure(asked(steady(0.0012, 1)), asked(steady(0.0002, 2)), RATIO)
    assert latency.champion_ms < 1
    assert latency.limit_ms(RATIO) == 2.0


def test_without_a_champion_one_model_is_asked() -> None:
    """There is no second list of rounds."""
    latency = measure(asked(steady(0.002, 1)), None, RATIO)
    assert len(latency.candidate) == rounds.ROUNDS
    assert latency.champion == ()


def test_a_round_of_a_slow_model_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after ROUND_S, and not before LEAST_REQUESTS."""
    now = 0.0

    def slow(_: int) -> float:
        nonlocal now
        now += 0.2
        return 0.2

    monkeypatch.setattr(rounds.time, "perf_counter", lambda: now)
    latency = measure(asked(slow), None, RATIO)
    assert latency.requests == rounds.ROUNDS * rounds.LEAST_REQUESTS
