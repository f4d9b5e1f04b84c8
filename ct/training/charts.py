"""Charts as inline SVG. Colours are classes, which the page's style sheet gives a light and a dark value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.training.summary import FeatureSummary, Numbers

WIDTH, HEIGHT, HEADROOM = 320, 96, 6
"""Of a histogram, in units of its viewBox; the page scales it."""
LINE_WIDTH, LINE_HEIGHT, MARGIN_X, MARGIN_TOP, MARGIN_BOTTOM = 1100, 180, 56, 26, 30
MOST_WHOLE_NUMBERS = 24
"""An integer feature with a range up to this has a bar for each number: 30 buckets then hold one number each at most."""
LABELS_A_LINE = 12
THOUSAND, DIGITS = 1000, 4


@dataclass(frozen=True)
class Bar:
    """A part of the axis, the share of the rows with a value that lies there, and what it is called."""

    begin: float
    end: float
    share: float
    name: str

    @property
    def density(self) -> float:
        """What its height shows, so that bars of different width compare."""
        return self.share / (self.end - self.begin)


def histogram(now: FeatureSummary, before: FeatureSummary | None) -> Markup:
    """A numeric feature's distribution: bars of this span, and the outline of the span before on the same axes."""
    spans = [feature for feature in (now, before) if feature is not None and feature.numbers is not None]
    bars = [_bars(feature) for feature in spans]
    low = min(bar.begin for each in bars for bar in each)
    high = max(bar.end for each in bars for bar in each)
    top = max(bar.density for each in bars for bar in each)
    scale = _Scale(low, high, top)
    parts = [scale.bar(bar) for bar in bars[0] if bar.share]
    if len(bars) > 1:
        parts.append(scale.outline(bars[1]))
    label = f"Distribution of {now.name}"
    return Markup(  # noqa: S704  what comes from the data is escaped above
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}<path class="axis" d="M0 {HEIGHT - 0.5}H{WIDTH}"/></svg>'
    )


def line(points: Sequence[tuple[str, float | None]], marked: str) -> Markup:
    """A value over spans, oldest first; None leaves a gap. `marked` is the span that the page is about."""
    known = [value for _, value in points if value is not None]
    low, high = min(known), max(known)
    margin = (high - low) * 0.25 or abs(high) * 0.25 or 0.5
    low, high = max(0.0, low - margin) if low >= 0 else low - margin, high + margin
    inner = LINE_WIDTH - 2 * MARGIN_X
    step = inner / max(1, len(points) - 1)

    def at(index: int, value: float) -> tuple[float, float]:
        x = MARGIN_X + (index * step if len(points) > 1 else inner / 2)
        y = MARGIN_TOP + (high - value) / (high - low) * (LINE_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM)
        return x, y

    parts, pen_down, path = [], False, ""
    for tick in (low, (low + high) / 2, high):
        _, y = at(0, tick)
        parts.append(f'<path class="grid" d="M{MARGIN_X} {y:.1f}H{LINE_WIDTH - MARGIN_X}"/>')
        parts.append(f'<text class="tick" x="{MARGIN_X - 8}" y="{y + 4:.1f}" text-anchor="end">{percent(tick)}</text>')
    every = math.ceil(len(points) / LABELS_A_LINE)
    for index, (name, value) in enumerate(points):
        x, _ = at(index, low)
        if (len(points) - 1 - index) % every == 0:
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{LINE_HEIGHT - 8}" text-anchor="middle">{escape(name)}</text>'
            )
        pen_down = pen_down and value is not None
        if value is not None:
            path += "{}{:.1f} {:.1f}".format("L" if pen_down else "M", *at(index, value))
            pen_down = True
    parts.append(f'<path class="line" d="{path}"/>')
    for index, (name, value) in enumerate(points):
        if value is None:
            continue
        x, y = at(index, value)
        kind = "dot marked" if name == marked else "dot"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{5 if name == marked else 3.5}"><title>{escape(name)}: '
            f"{percent(value)}</title></circle>"
        )
        if name == marked:
            parts.append(
                f'<text class="value" x="{x:.1f}" y="{y - 11:.1f}" text-anchor="middle">{percent(value)}</text>'
            )
    return Markup(  # noqa: S704  what comes from the data is escaped above
        f'<svg class="rates" viewBox="0 0 {LINE_WIDTH} {LINE_HEIGHT}" role="img" aria-label="Label rate over spans">'
        f"{''.join(parts)}</svg>"
    )


def percent(share: float) -> str:
    """A share as a person reads it; a small one is not told as none."""
    if share == 0:
        return "0 %"
    hundredths = share * 100
    if abs(hundredths) < 0.01:  # noqa: PLR2004  what two decimals can show
        return "<0.01 %"
    return f"{hundredths:.2f} %" if abs(hundredths) < 1 else f"{hundredths:.1f} %"


def number(value: float) -> str:
    """A number with the digits that a person compares."""
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004  exact in a double
        return f"{int(value):,}"
    if abs(value) >= THOUSAND:
        return f"{value:,.1f}"
    return f"{value:.{DIGITS}g}"


class _Scale:
    """Data to the units of a histogram's viewBox."""

    def __init__(self, low: float, high: float, top: float) -> None:
        self._low, self._width, self._top = low, (high - low) or 1.0, top or 1.0

    def x(self, value: float) -> float:
        return (value - self._low) / self._width * WIDTH

    def y(self, bar: Bar) -> float:
        return HEIGHT - bar.density / self._top * (HEIGHT - HEADROOM)

    def bar(self, bar: Bar) -> str:
        x, y = self.x(bar.begin), self.y(bar)
        width = max(1.0, self.x(bar.end) - x - 1.0)
        return (
            f'<rect class="now" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{HEIGHT - y:.2f}">'
            f"<title>{bar.name}: {percent(bar.share)}</title></rect>"
        )

    def outline(self, bars: list[Bar]) -> str:
        steps = "".join(f"V{self.y(bar):.2f}H{self.x(bar.end):.2f}" for bar in bars)
        return f'<path class="before" d="M{self.x(bars[0].begin):.2f} {HEIGHT}{steps}V{HEIGHT}"/>'


def _bars(feature: FeatureSummary) -> list[Bar]:
    numbers = feature.numbers
    if numbers is None:
        return []
    total = sum(bucket.count for bucket in numbers.histogram) or 1.0
    if feature.type == "int64" and numbers.max - numbers.min <= MOST_WHOLE_NUMBERS:
        return _whole_numbers(numbers, total)
    if numbers.min == numbers.max:
        return [Bar(numbers.min - 0.5, numbers.min + 0.5, 1.0, number(numbers.min))]
    buckets = [bucket for bucket in numbers.histogram if bucket.high > bucket.low]
    names = [f"{number(bucket.low)} to {number(bucket.high)}" for bucket in buckets]
    return [Bar(each.low, each.high, each.count / total, name) for each, name in zip(buckets, names, strict=True)]


def _whole_numbers(numbers: Numbers, total: float) -> list[Bar]:
    """A bar around each integer. A bucket is narrower than 1, so the integer in it is the first one from its low end on."""
    counts = dict.fromkeys(range(int(numbers.min), int(numbers.max) + 1), 0.0)
    slack = (numbers.max - numbers.min) * 1e-6
    for bucket in numbers.histogram:
        if bucket.count:
            counts[min(int(numbers.max), math.ceil(bucket.low - slack))] += bucket.count
    return [Bar(value - 0.5, value + 0.5, count / total, f"{value:,}") for value, count in counts.items()]
