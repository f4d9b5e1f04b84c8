"""The year's table, numbers and plot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NONE = "-"
SERVED, FROZEN = "#0b6e4f", "#b0413e"
MARKS = {
    "approved": ("o", SERVED),
    "refused": ("X", FROZEN),
    "inconclusive": ("D", "#c98c10"),
    "withheld": ("X", "#c98c10"),
}


@dataclass(frozen=True)
class Judged:
    """What became of one month's landing. AUCs are on that month's rows (of the first month: on its held-out days)."""

    span: str
    rows: int
    seconds: float
    """From its landing to the end of its run."""
    candidate_auc: float | None
    champion_auc: float | None
    champion_version: int | None
    difference: float | None
    low: float | None
    high: float | None
    margin: float | None
    """What the interval must lie above for the candidate to pass."""
    verdict: str
    reason: str
    version: int | None
    serves: int | None
    """The version that served when its run had ended."""


@dataclass(frozen=True)
class NextMonth:
    """What served after a month, and January's model, on the rows of the month after."""

    after: str
    on: str
    version: int
    served_auc: float
    frozen_auc: float


@dataclass(frozen=True)
class Year:
    """The whole year."""

    months: tuple[Judged, ...]
    following: tuple[NextMonth, ...]
    seconds: float

    @property
    def served_mean(self) -> float:
        return mean(month.served_auc for month in self.following)

    @property
    def frozen_mean(self) -> float:
        return mean(month.frozen_auc for month in self.following)


def write_table(year: Year) -> str:
    """The year as fixed-width text: every verdict with its interval, and what served on the month after."""
    header = ("month", "rows", "s", "AUC new", "AUC champion", "difference", "interval", "verdict", "version", "serves")
    header = (*header, "AUC next month", "frozen January")
    following = {month.after: month for month in year.following}
    rows = [_row(month, following.get(month.span)) for month in year.months]
    rows.append(("mean", *[""] * (len(header) - 3), f"{year.served_mean:.4f}", f"{year.frozen_mean:.4f}"))
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    rule = "  ".join("-" * width for width in widths)
    lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    outcomes = [month.verdict for month in year.months]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
    return "\n".join([*lines, "", f"verdicts: {counts}", *(f"{month.span}: {month.reason}" for month in year.months)])


def write_year(year: Year, folder: Path) -> None:
    """Write year.json, table.txt and auc.png into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {**asdict(year), "served_mean": year.served_mean, "frozen_mean": year.frozen_mean}
    (folder / "year.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    (folder / "table.txt").write_text(write_table(year) + "\n", encoding="utf-8")
    plot_year(year, folder / "auc.png")


def plot_year(year: Year, path: Path) -> None:
    """Above: AUC on the month after. Below: each verdict, and the interval of the difference that it rests on."""
    import matplotlib as mpl  # noqa: PLC0415  slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 7), layout="constrained", height_ratios=(3, 2))
    spans = [month.on for month in year.following]
    for label, values, colour in (
        (f"served, mean {year.served_mean:.3f}", [month.served_auc for month in year.following], SERVED),
        (f"January's, never retrained, mean {year.frozen_mean:.3f}", [m.frozen_auc for m in year.following], FROZEN),
    ):
        above.plot(spans, values, marker="o", color=colour, label=label, linewidth=2)
    for month in year.following:
        above.annotate(
            f"v{month.version}", (month.on, month.served_auc), textcoords="offset points", xytext=(0, 8), ha="center"
        )
    above.set_ylabel("AUC on a month that neither has seen")
    above.set_title("Late arrivals of 2013: what served when the month began, against January's model", loc="left")
    above.margins(y=0.2)
    above.legend(frameon=False, loc="best")
    _draw_verdicts(below, year)
    for axes in (above, below):
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_verdicts(axes: Any, year: Year) -> None:
    axes.axhline(0, color="#888888", linewidth=0.8)
    for margin in sorted({month.margin for month in year.months if month.margin is not None}):
        label = f"to pass: surely above {margin:g}"
        axes.axhline(margin, color="#888888", linewidth=0.8, linestyle="--", label=label)
    labelled = set()
    for month in year.months:
        if month.difference is None:
            continue
        mark, colour = MARKS.get(month.verdict, ("o", "#555555"))
        if month.low is not None and month.high is not None:
            axes.plot([month.span] * 2, [month.low, month.high], color=colour, linewidth=2)
        label = None if month.verdict in labelled else month.verdict
        axes.scatter(month.span, month.difference, marker=mark, color=colour, label=label, zorder=3)
        labelled.add(month.verdict)
    axes.set_ylabel("AUC, candidate minus champion")
    axes.set_xlabel("month that landed, with the interval of the difference")
    if labelled:
        axes.legend(frameon=False, loc="best")


def _row(month: Judged, following: NextMonth | None) -> tuple[str, ...]:
    interval = NONE if month.low is None or month.high is None else f"[{month.low:+.4f}, {month.high:+.4f}]"
    return (
        month.span,
        f"{month.rows:,}",
        f"{month.seconds:.0f}",
        _auc(month.candidate_auc),
        _auc(month.champion_auc),
        NONE if month.difference is None else f"{month.difference:+.4f}",
        interval,
        month.verdict,
        NONE if month.version is None else str(month.version),
        NONE if month.serves is None else str(month.serves),
        NONE if following is None else f"{following.served_auc:.4f}",
        NONE if following is None else f"{following.frozen_auc:.4f}",
    )


def _auc(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
