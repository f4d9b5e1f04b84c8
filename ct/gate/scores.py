"""The rows that a candidate is judged on: label, what both models say of it, and which slices it is in."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  part of the value
from dataclasses import dataclass, field

import numpy as np

OVERALL = "overall"


@dataclass(frozen=True)
class Scores:
    """Rows of the gate's spans, scored by both models. Every array is (rows,) and in one order."""

    labels: np.ndarray
    """bool: whether the row is positive."""

    candidate: np.ndarray
    """float64: the candidate's probability."""

    champion: np.ndarray | None
    """float64: the champion's; None when there is nothing to compare with."""

    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Feature -> its value in each row as text (object); None where the row has none."""

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.labels.size)

    @property
    def champion_failures(self) -> int:
        """In how many rows the champion gave no finite probability."""
        return 0 if self.champion is None else int(np.count_nonzero(~np.isfinite(self.champion)))

    def by_slice(self, feature: str) -> dict[str, Scores]:
        """`feature=value` -> the rows of that value, ordered by name; rows without a value are in none."""
        values = self.slices[feature]
        names, codes = np.unique(
            np.array([_text(value) for value in values], dtype=object).astype(str), return_inverse=True
        )
        present = np.array([value is not None for value in values], dtype=bool)
        found = {}
        for code, name in enumerate(names):
            chosen = np.flatnonzero((codes == code) & present)
            if chosen.size:
                found[f"{feature}={name}"] = self.take(chosen)
        return found

    def take(self, chosen: np.ndarray) -> Scores:
        """These rows, by their positions, without their slices."""
        champion = None if self.champion is None else self.champion[chosen]
        return Scores(self.labels[chosen], self.candidate[chosen], champion)


def _text(value: object) -> str:
    return "" if value is None else str(value)
