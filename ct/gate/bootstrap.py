"""The paired bootstrap: rows are drawn with replacement, and both models are measured on the same draw."""

from __future__ import annotations

import numpy as np

DRAWS_AT_ONCE = 2_000_000
"""Rows drawn in one piece: 24 MB, whatever the number of replicates."""


def replicate_means(terms: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Means of the columns over each of many resamples of the rows.

    The same rows and seed give the same resamples, so what is measured on them is paired across metrics and models.

    Args:
        terms: float64, (rows, columns).
        replicates: how many resamples of all rows.
        seed: of the draws.

    Returns:
        float64, (replicates, columns).
    """
    rows = terms.shape[0]
    numbers = np.random.default_rng(seed)
    columns = np.ascontiguousarray(terms.T)
    means = np.empty((replicates, columns.shape[0]))
    at_once = max(1, DRAWS_AT_ONCE // rows)
    for begin in range(0, replicates, at_once):
        chunk = min(at_once, replicates - begin)
        drawn = numbers.integers(0, rows, size=(chunk, rows), dtype=np.int32)
        for number, column in enumerate(columns):
            means[begin : begin + chunk, number] = column.take(drawn).mean(axis=1)
    return means
