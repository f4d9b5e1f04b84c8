"""Intervals as inline SVG: a row a check, with the limit it was held against. Colours are classes of the page's style sheet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from ct.verdict_page.words import OVERALL, interval, level, number, outcome_of, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import Check

WIDTH, NAMES, NUMBERS = 1080, 250, 200
"""Of the chart, of the names on its left and of the numbers on its right, in units of its viewBox."""
ROW, TOP, BOTTOM = 26, 10, 30
TICKS = 6
NAME_CHARACTERS = 30
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
PADDING = 0.06


@dataclass(frozen=True)
class Chart:
    """Checks that share an axis."""

    title: str
    explanation: str
    svg: str


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def x(self, value: float) -> float:
        """Where a value is; one that the axis does not reach is at its end."""
        inside = min(max(value, self.low), self.high)
        return NAMES + (inside - self.low) / (self.high - self.low) * (WIDTH - NAMES - NUMBERS)

    def ticks(self) -> list[float]:
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in NICE if nice * power >= rough)
        return [number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def charts(checks: Sequence[Check]) -> list[Chart]:
    """A chart for each metric that was compared with the champion, then one for each whose value has an interval."""
    made: list[Chart] = []
    for compares in (True, False):
        groups: dict[str, list[Check]] = {}
        for check in checks:
            if check.low is not None and check.high is not None and (check.difference is not None) is compares:
                unit = " in % of the champion's" if compares and "%" in check.name else ""
                groups.setdefault(check.metric + unit, []).append(check)
        made += [_chart(name, group, compares=compares) for name, group in groups.items()]
    return made


def _chart(metric: str, checks: Sequence[Check], *, compares: bool) -> Chart:
    axis = _axis_of(checks, compares=compares)
    height = TOP + ROW * len(checks) + BOTTOM
    end = height - BOTTOM
    parts = [
        f'<path class="grid" d="M{axis.x(tick):.1f} {TOP}V{end}"/>'
        f'<text x="{axis.x(tick):.1f}" y="{end + 18}" text-anchor="middle">{tick:g}</text>'
        for tick in (round(tick, 10) for tick in axis.ticks())
    ]
    if compares:
        parts.append(f'<path class="zero" d="M{axis.x(0):.1f} {TOP}V{end}"/>')
    parts += [_row(check, axis, TOP + ROW * number) for number, check in enumerate(checks)]
    title = f"{metric}: by how much the candidate is better" if compares else f"{metric} of the candidate"
    told = ["right of the solid line the candidate is better"] if compares else []
    if any(check.threshold is not None for check in checks):
        told.append("the dashed mark is the limit")
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return Chart(title, "; ".join(told) or "on record, without a limit", svg)


def _axis_of(checks: Sequence[Check], *, compares: bool) -> _Axis:
    """From the checks that have a say: the interval of a few rows would make all others a dot."""
    shaping = [check for check in checks if check.blocking] or checks
    values = [value for check in shaping for value in (check.low, check.high, check.threshold, _point(check))]
    known = [value for value in values if value is not None and math.isfinite(value)] + ([0.0] if compares else [])
    low, high = min(known), max(known)
    margin = (high - low) * PADDING or abs(high) * PADDING or 1.0
    return _Axis(low - margin, high + margin)


def _row(check: Check, axis: _Axis, y: float) -> str:
    middle = y + ROW / 2
    low, high, point = check.low or 0.0, check.high or 0.0, _point(check)
    name = check.slice if check.difference is not None or check.slice != OVERALL else check.name
    shown = name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"
    numbers = signed(check.difference) if check.difference is not None else number(check.value)
    rows = "" if check.rows is None else f", {check.rows:,} rows"
    told = f"{name}: {numbers}, {level(check.level)} interval {interval(check)}{rows}: {outcome_of(check)}"
    strong = ' class="strong"' if check.slice == OVERALL else ""
    limit = "" if check.threshold is None else f"M{axis.x(check.threshold):.1f} {y + 2}V{y + ROW - 2}"
    marks = [
        f'<text{strong} x="{NAMES - 14}" y="{middle + 4:.1f}" text-anchor="end">{escape(shown)}</text>',
        f'<path class="limit" d="{limit}"/>' if limit else "",
        f'<path class="interval" d="M{axis.x(low):.1f} {middle}H{axis.x(high):.1f}"/>',
        _end(low, axis, middle, left=True),
        _end(high, axis, middle, left=False),
        "" if point is None else _dot(check, axis.x(point), middle),
        f'<text{strong} x="{WIDTH - NUMBERS + 14}" y="{middle + 4:.1f}">{numbers}{rows}</text>',
    ]
    return f'<g class="{outcome_of(check)}"><title>{escape(told)}</title>{"".join(marks)}</g>'


def _end(value: float, axis: _Axis, middle: float, *, left: bool) -> str:
    """A cap, or an arrow where the interval goes on beyond the axis."""
    x = axis.x(value)
    if axis.low <= value <= axis.high:
        return f'<path class="interval" d="M{x:.1f} {middle - 4}V{middle + 4}"/>'
    inwards = 6 if left else -6
    return (
        f'<path class="interval" d="M{x + inwards:.1f} {middle - 5}L{x:.1f} {middle}L{x + inwards:.1f} {middle + 5}"/>'
    )


def _dot(check: Check, x: float, middle: float) -> str:
    """Shapes differ, so that nobody needs colours: a disc passes, a cross fails, a diamond cannot tell, a ring is on record."""
    outcome = outcome_of(check)
    if outcome == "fail":
        return f'<path class="cross" d="M{x - 5:.1f} {middle - 5}l10 10m0 -10l-10 10"/>'
    if outcome == "inconclusive":
        return f'<path class="diamond" d="M{x:.1f} {middle - 6}l6 6l-6 6l-6 -6z"/>'
    return f'<circle class="{"disc" if outcome == "pass" else "ring"}" cx="{x:.1f}" cy="{middle}" r="5"/>'


def _point(check: Check) -> float | None:
    return check.value if check.difference is None else check.difference
