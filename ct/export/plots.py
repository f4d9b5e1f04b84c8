"""The card's plot."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct.contracts import Check, Verdict

OVERALL = "overall"
CANDIDATE, CHAMPION, LINE = "#0b6e4f", "#3066be", "#bbbbbb"
DPI = 110
INCHES_A_ROW, INCHES_AROUND = 0.3, 1.5


def plot_checks(verdict: Verdict) -> bytes:
    """The deciding metric of both models, overall and a slice, and how sure the difference is; a PNG, the same each time."""
    import matplotlib as mpl  # noqa: PLC0415  a second to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = shown(verdict)
    compared = any(check.difference is not None for check in rows)
    figure, grid = plt.subplots(
        1,
        2 if compared else 1,
        figsize=(11 if compared else 7, INCHES_AROUND + INCHES_A_ROW * max(len(rows), 1)),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    _draw_values(grid[0][0], rows)
    if compared:
        _draw_differences(grid[0][1], rows)
    for axes in grid[0]:
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0][0].set_yticks(range(len(rows)), [check.slice for check in rows])
    grid[0][0].set_title(f"{verdict.outcome.value}, on {verdict.span}, {verdict.rows:,} rows", loc="left", fontsize=10)
    written = io.BytesIO()
    figure.savefig(written, dpi=DPI, format="png")
    plt.close(figure)
    return written.getvalue()


def shown(verdict: Verdict) -> list[Check]:
    """One check of the deciding metric a slice, the comparison where there is one; `overall` last, which is on top."""
    metric = verdict.checks[0].metric if verdict.checks else None
    found: dict[str, Check] = {}
    for check in verdict.checks:
        if check.metric == metric and check.value is not None:
            known = found.get(check.slice)
            if known is None or (known.difference is None and check.difference is not None):
                found[check.slice] = check
    return sorted(found.values(), key=lambda check: (check.slice != OVERALL, check.slice), reverse=True)


def _draw_values(axes: Any, rows: Sequence[Check]) -> None:
    for row, check in enumerate(rows):
        if check.baseline is not None:
            axes.plot([check.baseline, check.value], [row, row], color=LINE, zorder=1)
        if check.difference is None and check.low is not None:
            axes.plot([check.low, check.high], [row, row], color=CANDIDATE, zorder=2)
    compared = [(check.baseline, row) for row, check in enumerate(rows) if check.baseline is not None]
    judged = [(check.value, row) for row, check in enumerate(rows)]
    for label, points, colour in (("champion", compared, CHAMPION), ("candidate", judged, CANDIDATE)):
        if points:
            axes.scatter(*zip(*points, strict=True), color=colour, zorder=3, label=label)
            axes.legend(frameon=False, loc="best", fontsize=8)
    axes.set_xlabel(rows[0].metric if rows else "")


def _draw_differences(axes: Any, rows: Sequence[Check]) -> None:
    for row, check in enumerate(rows):
        if check.difference is None:
            continue
        if check.low is not None and check.high is not None:
            axes.plot([check.low, check.high], [row, row], color=CANDIDATE, linewidth=2, zorder=2)
        axes.scatter(check.difference, row, color=CANDIDATE, zorder=3)
        axes.plot([check.threshold] * 2, [row - 0.35, row + 0.35], color="#b0413e", linewidth=1.2, zorder=1)
    axes.axvline(0, color="#888888", linewidth=0.8, zorder=0)
    axes.set_xlabel("difference, above 0 is better; red: the threshold", fontsize=9)
