"""Confidence sequences for means of bounded values: valid at every look, however often one looks.

The method is testing by betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
2024). Against 'the mean is at most m' one bets a constant share theta on each value being larger:

    K_theta(m) = prod_i (1 + theta * (x_i / m - 1)),    0 < theta < 1, x_i in [0, 1]

While the claim is true K is a non-negative supermartingale that starts at 1, and so is its average over a grid of thetas. By
Ville's inequality it ever reaches 1 / alpha with a chance of at most alpha. The lower end of the sequence is the largest m that
has been refuted so; the upper end is that of 1 - x. For values of 0 and 1 this is a mixture SPRT.

The product does not depend on the order of the values. So nothing need be kept between two looks: the sequence is computed
anew from all data, and a look that is lost or done twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

THETAS: Floats = np.geomspace(1e-4, 0.999, 40)
"""Small ones win where failures are rare, large ones where differences are small."""
BINS = 1 << 14
"""Values are rounded to this many steps, towards what is claimed; the price is 1 / BINS of the range, and the time does not
grow with the rows."""
STEPS = 24
"""Of the bisection: ends are exact to 6e-8."""


@dataclass(frozen=True)
class Sequence:
    """What is known of a mean. Each end is wrong, ever, with a chance of at most `alpha`."""

    mean: float
    low: float
    high: float
    rows: int
    alpha: float


def of_counts(hits: int, rows: int, alpha: float) -> Sequence:
    """The sequence of a share: `hits` of `rows`; (0, 1) is all that is known of no rows."""
    values = np.array([0.0, 1.0])
    return _sequence(
        (values, np.array([rows - hits, hits], np.float64)),
        (values, np.array([hits, rows - hits], np.float64)),
        mean=hits / rows if rows else 0.5,
        rows=rows,
        alpha=alpha,
    )


def of_values(values: Floats, alpha: float) -> Sequence:
    """The sequence of a mean.

    Args:
        values: float64, (rows,), each in [0, 1].
        alpha: chance of error of each end.
    """
    rows = len(values)
    mean = float(values.mean()) if rows else 0.5
    return _sequence(_binned(values), _binned(1.0 - values), mean=mean, rows=rows, alpha=alpha)


def of_differences(differences: Floats, alpha: float) -> Sequence:
    """The same for float64 values in [-1, 1], such as the difference of two losses on one row."""
    found = of_values((differences + 1.0) / 2.0, alpha)
    mean, low, high = (2.0 * end - 1.0 for end in (found.mean, found.low, found.high))
    return Sequence(mean, low, high, found.rows, alpha)


def log_capital(values: Floats, counts: Floats, mean: float) -> float:
    """The logarithm of what betting against 'the mean is at most `mean`' has made of 1.

    Args:
        values: distinct values in [0, 1].
        counts: how often each was seen.
        mean: the claim, in (0, 1).
    """
    # Not `@`: BLAS would start a thread for each processor, which belong to those who answer requests.
    logs = np.einsum("ij,j->i", np.log1p(THETAS[:, None] * (values[None, :] / mean - 1.0)), counts)
    largest = float(logs.max())
    return largest + float(np.log(np.mean(np.exp(logs - largest))))


def _binned(values: Floats) -> tuple[Floats, Floats]:
    """Distinct values, rounded down, and how often each was seen."""
    steps, counts = np.unique(np.floor(values * BINS), return_counts=True)
    return steps / BINS, counts.astype(np.float64)


def _sequence(
    values: tuple[Floats, Floats], reflected: tuple[Floats, Floats], *, mean: float, rows: int, alpha: float
) -> Sequence:
    if not rows:
        return Sequence(mean, 0.0, 1.0, 0, alpha)
    return Sequence(mean, _lower_end(*values, alpha), 1.0 - _lower_end(*reflected, alpha), rows, alpha)


def _lower_end(values: Floats, counts: Floats, alpha: float) -> float:
    """The largest mean that is refuted; capital falls as the claimed mean grows, so bisection finds it."""
    wanted = -float(np.log(alpha))
    refuted, open_ = 0.0, 1.0
    for _ in range(STEPS):
        middle = (refuted + open_) / 2
        if log_capital(values, counts, middle) >= wanted:
            refuted = middle
        else:
            open_ = middle
    return refuted
