"""Confidence sequences: false alarms stay under alpha however often one looks, and planted degradations are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ct.monitor.sequential import BINS, log_capital, of_counts, of_differences, of_values

Floats = np.ndarray[Any, np.dtype[np.float64]]

ALPHA = 0.05
LOOKS = np.unique(np.geomspace(20, 4000, 40).astype(int))
RUNS = 400
WANTED = -np.log(ALPHA)


def brier_differences(rng: np.random.Generator, rows: int, noise: float) -> Floats:
    """Losses of a new version, whose logits are off by `noise`, less those of an equally noisy previous one."""
    truth = rng.normal(-1.2, 1.0, rows)
    happened = rng.random(rows) < 1 / (1 + np.exp(-truth))
    new, previous = (1 / (1 + np.exp(-(truth + rng.normal(0, of, rows)))) for of in (noise, 0.4))
    return np.square(new - happened) - np.square(previous - happened)


def first_alarm(differences: Floats, tolerance: float) -> int | None:
    """Rows at the first look whose whole interval is above the tolerance; asked of the capital, which is 48 times as quick."""
    for rows in LOOKS:
        steps, counts = np.unique(np.floor((differences[:rows] + 1) / 2 * BINS), return_counts=True)
        if log_capital(steps / BINS, counts.astype(float), (tolerance + 1) / 2) >= WANTED:
            return int(rows)
    return None


def test_an_interval_is_above_a_tolerance_when_the_capital_is_large_enough() -> None:
    """What the simulations below ask is what the monitor asks."""
    values = brier_differences(np.random.default_rng(0), 4000, 1.2)
    at = first_alarm(values, 0.005)
    assert at is not None
    before = int(LOOKS[np.searchsorted(LOOKS, at) - 1])
    assert of_differences(values[:at], ALPHA).low > 0.005
    assert of_differences(values[:before], ALPHA).low <= 0.005


def test_equal_versions_are_rarely_called_different() -> None:
    """Forty looks at each of 400 pairs of equal versions, with no tolerance at all: under alpha of them ever alarm."""
    rng = np.random.default_rng(1)
    alarms = [first_alarm(brier_differences(rng, 4000, 0.4), 0.0) for _ in range(RUNS)]
    assert sum(alarm is not None for alarm in alarms) <= ALPHA * RUNS


def test_shares_that_are_as_claimed_are_rarely_called_larger() -> None:
    """Failures at exactly the claimed rate of 1 %, looked at after each of 3,000 requests: under alpha of 400 runs alarm."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(RUNS):
        hits = np.cumsum(rng.random(3000) < 0.01)
        # Only where a hit has just come can the capital be at a new height.
        rows = np.flatnonzero(np.diff(hits, prepend=0)) + 1
        alarms += any(
            log_capital(np.array([0.0, 1.0]), np.array([count - hits[count - 1], hits[count - 1]]), 0.01) >= WANTED
            for count in rows
        )
    assert alarms <= ALPHA * RUNS


@pytest.mark.parametrize(("noise", "within"), [(1.0, 2500), (1.5, 900)])
def test_planted_degradations_are_found(noise: float, within: int) -> None:
    """A version whose logits got noisier is found in at least 95 of 100 runs, in so many rows on average."""
    rng = np.random.default_rng(3)
    found = [first_alarm(brier_differences(rng, 4000, noise), 0.005) for _ in range(100)]
    rows = [alarm for alarm in found if alarm is not None]
    assert len(rows) >= 95
    assert np.mean(rows) <= within


def test_the_interval_covers_the_mean_at_every_look() -> None:
    """Both ends at once: 2 alpha bounds how many of 60 sequences ever lose the true mean."""
    rng = np.random.default_rng(4)
    lost = 0
    for _ in range(60):
        values = rng.beta(2, 6, 1000)
        ends = [of_values(values[:rows], ALPHA) for rows in (20, 50, 100, 200, 400, 1000)]
        lost += any(not end.low <= 0.25 <= end.high for end in ends)
    assert lost <= 2 * ALPHA * 60


def test_the_order_of_rows_does_not_matter() -> None:
    """So the sequence can be computed anew from what is on disk, however it is read."""
    values = np.random.default_rng(5).random(500)
    assert of_values(values, ALPHA) == of_values(values[::-1].copy(), ALPHA)


def test_more_rows_narrow_the_interval() -> None:
    """Ten times the rows, less than half of the width."""
    rng = np.random.default_rng(6)
    few, many = of_values(rng.random(300), ALPHA), of_values(rng.random(3000), ALPHA)
    assert many.high - many.low < (few.high - few.low) / 2


def test_counts_and_values_say_the_same() -> None:
    """Failures as zeros and ones are the counts of them."""
    counted = of_counts(7, 200, ALPHA)
    valued = of_values(np.array([1.0] * 7 + [0.0] * 193), ALPHA)
    assert (counted.low, counted.high, counted.mean) == pytest.approx((valued.low, valued.high, valued.mean))


@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (0, 50), (50, 50)])
def test_extremes_have_an_interval(hits: int, rows: int) -> None:
    """Nothing seen, no failure, only failures: the interval holds the share, and no end is beyond 0 or 1."""
    found = of_counts(hits, rows, ALPHA)
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found.rows == rows


def test_a_smaller_alpha_widens_the_interval() -> None:
    """Surer is wider."""
    assert of_counts(10, 100, 0.001).low < of_counts(10, 100, 0.05).low
