"""A metric of both models on the same rows, the gate's own or TFMA's, in the form that every check reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number that the data give, and how sure they are of it."""

    value: float | None
    """None when it is undefined on these rows."""

    low: float | None = None
    high: float | None = None
    """None when the rows are too few for an interval."""

    level: float | None = None
    method: str | None = None


@dataclass(frozen=True)
class Measured:
    """One metric on one set of rows."""

    value: Estimate
    """The candidate's."""

    baseline: float | None
    """The champion's; None when there is nothing to compare with."""

    gain: Estimate | None
    """By how much the candidate is better, positive whatever the metric's direction; None with nothing to compare with."""

    rows: int

    def as_share(self) -> Measured:
        """The gain as a share of the champion's value, where only the interval of the difference is known.

        The champion's value counts as known, which it is not quite. No gain is a share of nothing.
        """
        if self.gain is None or self.gain.value is None:
            return self
        if not self.baseline:
            return Measured(self.value, self.baseline, Estimate(None), self.rows)
        scale = abs(self.baseline)
        low, high = (None if bound is None else bound / scale for bound in (self.gain.low, self.gain.high))
        gain = Estimate(self.gain.value / scale, low, high, self.gain.level, self.gain.method)
        return Measured(self.value, self.baseline, gain, self.rows)
