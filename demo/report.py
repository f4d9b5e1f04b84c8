"""The demo's table and plot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from demo.traffic import TrafficReport

NONE = "-"


@dataclass(frozen=True)
class Month:
    """What became of one month's landing. AUCs are on that month's rows (of the first month: on its held-out days)."""

    span: str
    rows: int
    seconds_to_serving: float | None
    candidate_auc: float
    champion_auc: float | None
    january_auc: float | None
    verdict: str
    reason: str
    version: int | None


@dataclass(frozen=True)
class Story:
    """The whole demo."""

    months: tuple[Month, ...]
    rolled_back_from: int
    rolled_back_to: int
    rollback_seconds: float
    traffic: TrafficReport
    total_seconds: float
    left_behind: int


def write_table(months: Sequence[Month]) -> str:
    """The months as a table of fixed-width text."""
    header = ("span", "rows", "landed->served", "AUC new", "AUC champion", "AUC frozen January", "verdict", "version")
    rows = [
        (
            month.span,
            f"{month.rows:,}",
            NONE if month.seconds_to_serving is None else f"{month.seconds_to_serving:.1f} s",
            f"{month.candidate_auc:.4f}",
            _auc(month.champion_auc),
            _auc(month.january_auc),
            month.verdict,
            NONE if month.version is None else str(month.version),
        )
        for month in months
    ]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def write_story(story: Story, folder: Path) -> None:
    """Write story.json, table.txt and auc.png into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "story.json").write_text(json.dumps(asdict(story), indent=2) + "\n", encoding="utf-8")
    (folder / "table.txt").write_text(write_table(story.months) + "\n", encoding="utf-8")
    plot_auc(story.months, folder / "auc.png")


def plot_auc(months: Sequence[Month], path: Path) -> None:
    """Draw the AUC of candidate, champion and frozen January model on each month's rows."""
    import matplotlib as mpl  # noqa: PLC0415  slow to import, and only the end of the demo needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    spans = [month.span for month in months]
    series = (
        (
            "new model (judged on this month, trained on those before)",
            [month.candidate_auc for month in months],
            "#0b6e4f",
            "o",
        ),
        ("champion when the month landed", [month.champion_auc for month in months], "#3066be", "s"),
        ("January model, never retrained", [month.january_auc for month in months], "#b0413e", "^"),
    )
    for label, values, colour, marker in series:
        points = [(span, value) for span, value in zip(spans, values, strict=True) if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=label, linewidth=2)
    for month in months:
        mark = f"v{month.version}" if month.seconds_to_serving is not None else month.verdict
        axes.annotate(mark, (month.span, month.candidate_auc), textcoords="offset points", xytext=(0, 9), ha="center")
    axes.set_ylabel("AUC on the month's flights")
    axes.set_xlabel("month that landed")
    axes.set_title("Late arrivals: retrained each month against frozen in January", loc="left")
    axes.margins(y=0.2)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _auc(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"
