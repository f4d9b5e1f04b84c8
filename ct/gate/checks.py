"""Single checks: a bound of a value, a comparison with the champion, the gap between slices, a size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.contracts import Check, CheckOutcome
from ct.gate.metrics import MEAN_METRICS, Better

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.gate.measured import Estimate, Measured
    from ct.gate_config import FairnessConfig

BETTER, NOT_WORSE = "better than the champion's", "not worse than the champion's"
"""One of them follows the metric in the name of every comparison, and of no other check."""
BETWEEN = "between values of"
"""Follows the metric in the name of every gap."""


def threshold_check(metric: str, measured: Measured, threshold: float) -> Check:
    """The gate's own bound: the least value, and of a metric that is better when lower the greatest."""
    lower = metric in MEAN_METRICS and MEAN_METRICS[metric].better is Better.LOWER
    return bound_check(metric, measured, threshold, at_most=lower)


def bound_check(metric: str, measured: Measured, bound: float, *, at_most: bool) -> Check:
    """Whether the candidate's value itself keeps a bound, which is inclusive.

    The value decides, and its interval is on record: a bound is a floor under what may serve, no claim about a population.
    A value that is undefined on these rows decides nothing.
    """
    value = measured.value.value
    kept = value is not None and (value <= bound if at_most else value >= bound)
    outcome = CheckOutcome.INCONCLUSIVE if value is None else CheckOutcome.PASS if kept else CheckOutcome.FAIL
    return Check(
        name=f"{metric} at {'most' if at_most else 'least'} {bound:g}",
        metric=metric,
        value=value,
        baseline=measured.baseline,
        threshold=bound,
        outcome=outcome,
        rows=measured.rows,
        **_interval(measured.value),
    )


def comparison_check(metric: str, measured: Measured, margin: float, *, relative: bool = False) -> Check:
    """Whether the candidate is better than the champion by more than a margin, by the interval of the difference.

    It passes when the whole interval lies above the margin and fails when none of it does; else the data cannot tell.
    """
    outcome = CheckOutcome.INCONCLUSIVE if measured.gain is None else _against(measured.gain, margin)
    name = f"{metric} {_wording(margin, relative=relative)}"
    return _compared(name, metric, measured, margin, outcome)


def slice_check(metric: str, measured: Measured, max_drop: float, where: str, *, has_say: bool) -> Check:
    """Whether the candidate is worse than the champion on a slice by more than `max_drop`, surely.

    Args:
        metric: the gate's.
        measured: on the slice's rows.
        max_drop: 0 or more.
        where: the slice.
        has_say: whether it may refuse a candidate; it never holds one up otherwise.
    """
    gain = measured.gain
    outcome = CheckOutcome.INCONCLUSIVE
    if gain is not None and gain.low is not None and gain.high is not None:
        if gain.high < -max_drop:
            outcome = CheckOutcome.FAIL
        elif gain.low >= -max_drop:
            outcome = CheckOutcome.PASS
    check = _compared(f"{metric} {NOT_WORSE} by {max_drop:g}", metric, measured, -max_drop, outcome)
    return check.model_copy(update={"slice": where, "blocking": has_say and outcome is CheckOutcome.FAIL})


def _compared(name: str, metric: str, measured: Measured, margin: float, outcome: CheckOutcome) -> Check:
    gain = measured.gain
    return Check(
        name=name,
        metric=metric,
        value=measured.value.value,
        baseline=measured.baseline,
        threshold=margin,
        outcome=outcome,
        difference=None if gain is None else gain.value,
        rows=measured.rows,
        **_interval(gain),
    )


def gap_check(rule: FairnessConfig, slices: Mapping[str, Measured]) -> Check:
    """How far a metric differs between slices, best against worst.

    The gap decides, and its interval is on record. Being the largest of many differences, it is larger than the true gap by
    chance alone, so it fails only where the interval, which holds for all slices at once, lies above the limit.

    Args:
        rule: the limit.
        slices: the slices with enough rows, each measured at the level corrected for how many they are.
    """
    known = {name: found for name, found in slices.items() if found.value.value is not None}
    values = [found.value.value for found in known.values() if found.value.value is not None]
    name = f"{rule.metric} {BETWEEN} {rule.feature} differs by at most {rule.max_gap:g}"
    if len(known) < len(slices):
        name += f" ({', '.join(sorted(slices.keys() - known.keys()))}: no value)"
    rows = sum(found.rows for found in known.values())
    if len(known) < 2:  # noqa: PLR2004  a gap is between two
        return Check(
            name=name,
            metric=rule.metric,
            value=None,
            threshold=rule.max_gap,
            outcome=CheckOutcome.INCONCLUSIVE,
            rows=rows,
        )
    gap = max(values) - min(values)
    bounds = [(found.value.low, found.value.high) for found in known.values()]
    lows, highs = [low for low, _ in bounds if low is not None], [high for _, high in bounds if high is not None]
    low = high = None
    if len(lows) == len(known):
        low, high = max(0.0, max(lows) - min(highs)), max(highs) - min(lows)
    if gap <= rule.max_gap:
        # A slice that could not be measured may be the one that is treated worst.
        outcome = CheckOutcome.PASS if len(known) == len(slices) else CheckOutcome.INCONCLUSIVE
    else:
        outcome = CheckOutcome.FAIL if low is not None and low > rule.max_gap else CheckOutcome.INCONCLUSIVE
    first = next(iter(known.values()))
    return Check(
        name=name,
        metric=rule.metric,
        value=gap,
        baseline=_spread([found.baseline for found in known.values()]),
        threshold=rule.max_gap,
        outcome=outcome,
        low=low,
        high=high,
        level=None if low is None else first.value.level,
        method=None if low is None else f"{first.value.method}, all {len(known)} slices at once",
        rows=rows,
    )


def size_check(model_mb: float, champion_mb: float | None, limit: float) -> Check:
    """Whether the SavedModel's folder is small enough."""
    return Check(
        name=f"model_mb at most {limit:g}",
        metric="model_mb",
        value=model_mb,
        baseline=champion_mb,
        threshold=limit,
        outcome=CheckOutcome.PASS if model_mb <= limit else CheckOutcome.FAIL,
    )


def is_comparison(check: Check) -> bool:
    """Whether a check compares the candidate with the champion."""
    return check.name.startswith((f"{check.metric} {BETTER}", f"{check.metric} {NOT_WORSE}"))


def is_gap(check: Check) -> bool:
    """Whether a check is of the gap between slices."""
    return check.name.startswith(f"{check.metric} {BETWEEN}")


def _against(gain: Estimate, margin: float) -> CheckOutcome:
    if gain.low is None or gain.high is None:
        return CheckOutcome.INCONCLUSIVE
    if gain.low > margin:
        return CheckOutcome.PASS
    return CheckOutcome.FAIL if gain.high <= margin else CheckOutcome.INCONCLUSIVE


def _wording(margin: float, *, relative: bool) -> str:
    amount = f"{abs(margin) * 100:g} %" if relative else f"{abs(margin):g}"
    return f"{NOT_WORSE} by {amount}" if margin < 0 else f"{BETTER} by more than {amount}"


def _interval(estimate: Estimate | None) -> dict[str, float | str | None]:
    if estimate is None:
        return {}
    return {"low": estimate.low, "high": estimate.high, "level": estimate.level, "method": estimate.method}


def _spread(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if len(known) == len(values) else None
