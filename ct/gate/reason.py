"""A verdict's reason: one sentence, with the numbers, that a person can act on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ct.contracts import CheckOutcome
from ct.gate.checks import is_comparison, is_gap
from ct.gate.intervals import AUC_METHOD, least_of_each_class
from ct.gate.scores import OVERALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import Check

MOST_TIMES_AS_MANY = 100
"""Rows beyond which their number helps nobody."""
NO_VALUE = "{} has no value on these rows"


def reason_of(checks: Sequence[Check], champion_version: int | None, no_comparison: str | None) -> str:
    """Why a verdict is what these checks make it.

    Args:
        checks: all of them, the gate's threshold first.
        champion_version: the version that serves.
        no_comparison: why the candidate cannot be compared with it, where it cannot.
    """
    blocking = [check for check in checks if check.blocking]
    failed = [check for check in blocking if check.outcome is CheckOutcome.FAIL]
    if failed:
        return "; ".join(_failure(check, champion_version) for check in failed)
    open_checks = [check for check in blocking if check.outcome is CheckOutcome.INCONCLUSIVE]
    if open_checks:
        told = [no_comparison] if no_comparison else []
        told += [
            _undecided(check, champion_version) for check in open_checks if not (no_comparison and is_comparison(check))
        ]
        return "; ".join(told)
    first = checks[0]
    if champion_version is None:
        return f"{first.metric} {first.value:.4f} passes `{first.name}`; nothing serves yet to compare with"
    comparisons = [_compared(check, champion_version) for check in blocking if is_comparison(check)]
    return "; ".join([f"{first.metric} {first.value:.4f} passes `{first.name}`", *comparisons])


def _compared(check: Check, champion_version: int | None) -> str:
    """`auc 0.7031 against 0.7002 of version 6: better by 0.0029 (95 % interval 0.0004 to 0.0054)`."""
    where = "" if check.slice == OVERALL else f" on {check.slice}"
    if check.value is None:
        return NO_VALUE.format(f"{check.metric}{where}")
    if check.difference is None or check.baseline is None:
        return f"{check.metric}{where} {check.value:{'.0f' if check.value.is_integer() else '.4f'}}"
    sign = "better" if check.difference >= 0 else "worse"
    against = f"{check.metric}{where} {check.value:.4f} against {check.baseline:.4f} of version {champion_version}"
    return f"{against}: {sign} by {_amount(check, abs(check.difference))} ({_interval(check)})"


def _failure(check: Check, champion_version: int | None) -> str:
    return f"{_compared(check, champion_version)} fails `{check.name}`"


def _undecided(check: Check, champion_version: int | None) -> str:
    if check.value is None:
        why = "fewer than two of them have enough rows and a value" if is_gap(check) else NO_VALUE.format(check.metric)
        return f"`{check.name}` cannot be told: {why}"
    if is_gap(check) and check.threshold is not None and check.value <= check.threshold:
        return f"`{check.name}` cannot be told: of those with a value it is {check.value:.4f}"
    if check.low is None:
        return f"`{check.name}` cannot be told from {check.rows or 0:,} rows: {_compared(check, champion_version)}"
    return f"{_compared(check, champion_version)}: too close to tell `{check.name}`{_rows_wanted(check)}"


def _rows_wanted(check: Check) -> str:
    """What would settle a comparison whose difference is above its margin, so that nobody waits for a better model instead."""
    if check.difference is None or check.low is None or check.threshold is None:
        return ""
    distance = check.difference - check.threshold
    if distance <= 0:
        return ""
    wanted = []
    if check.method == AUC_METHOD and check.level is not None and check.baseline:
        absolute = distance * check.baseline if _is_share(check) else distance
        least = least_of_each_class(absolute, check.level)
        if least > (check.rows or 0):  # else it is not what is missing
            wanted.append(f"at least {least:,} rows of each class")
    # an interval narrows with the root of the rows, or faster
    times = math.ceil(((check.difference - check.low) / distance) ** 2)
    if times <= MOST_TIMES_AS_MANY:
        wanted.append(f"up to {times} times as many rows as these")
    return f"; if the true difference is this one, it takes {' and '.join(wanted)}" if wanted else ""


def _interval(check: Check) -> str:
    if check.low is None or check.high is None:
        return "no interval; one needs ten rows of each class, and values without infinities"
    low, high = _amount(check, check.low), _amount(check, check.high)
    return f"{100 * (check.level or 0):.4g} % interval {low} to {high}"


def _amount(check: Check, number: float) -> str:
    """A difference in the unit that the check's name gives its margin in; of calibration it is one of |log|."""
    unit = " of |log|" if check.metric == "calibration" else ""
    return f"{100 * number:.2f} %" if _is_share(check) else f"{number:.4f}{unit}"


def _is_share(check: Check) -> bool:
    return check.name.endswith("%")
