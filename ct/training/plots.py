"""Plots for people who would rather look than read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from tensorflow_metadata.proto.v0 import statistics_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from ct.contracts import Verdict

CANDIDATE, CHAMPION = "#0b6e4f", "#3066be"
DPI = 110
COLUMNS = 4
INCHES_A_ROW = 0.28


def plot_verdict(verdict: Verdict, path: Path) -> None:
    """The gate's metric of candidate and champion, overall and a slice, as dots on a line a slice."""
    plt = _pyplot()
    shown = [check for check in verdict.checks if check.value is not None]
    checks = list({check.slice: check for check in shown}.values())[::-1]
    figure, axes = plt.subplots(figsize=(7.5, 1.6 + INCHES_A_ROW * len(checks)), layout="constrained")
    for row, check in enumerate(checks):
        if check.baseline is not None:
            axes.plot([check.baseline, check.value], [row, row], color="#bbbbbb", zorder=1)
            axes.scatter(check.baseline, row, color=CHAMPION, zorder=2, label="champion" if row == 0 else None)
        axes.scatter(check.value, row, color=CANDIDATE, zorder=3, label="candidate" if row == 0 else None)
    axes.set_yticks(range(len(checks)), [check.slice for check in checks])
    axes.set_xlabel(f"{verdict.checks[0].metric} on {verdict.span} ({verdict.rows:,} rows)")
    axes.set_title(f"{verdict.outcome.value}", loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def plot_features(statistics: Path, path: Path) -> None:
    """Each feature's distribution in the train and eval splits, from TFDV's statistics."""
    plt = _pyplot()
    splits = {name: _features(statistics / f"Split-{name}" / "FeatureStats.pb") for name in ("train", "eval")}
    names = sorted(splits["eval"])
    rows = -(-len(names) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(13, 2.3 * rows), layout="constrained", squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        for split, colour in (("train", CHAMPION), ("eval", CANDIDATE)):
            if name in splits[split]:
                _draw(axes, splits[split][name], colour, split)
        axes.set_title(name, fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(names) :]:
        axes.axis("off")
    grid.flat[0].legend(frameon=False, fontsize=8)
    figure.suptitle("share of rows: train (older spans) and eval (newest span)", fontsize=11, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _features(path: Path) -> dict[str, Any]:
    dataset = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets[0]
    return {feature.path.step[0]: feature for feature in dataset.features}


def _draw(axes: Any, feature: Any, colour: str, split: str) -> None:
    if feature.HasField("num_stats"):
        histogram = next(h for h in feature.num_stats.histograms if h.type == statistics_pb2.Histogram.STANDARD)
        total = sum(bucket.sample_count for bucket in histogram.buckets) or 1
        edges = [bucket.low_value for bucket in histogram.buckets]
        axes.step(edges, [b.sample_count / total for b in histogram.buckets], where="post", color=colour, label=split)
    elif feature.HasField("string_stats"):
        top = feature.string_stats.rank_histogram.buckets[:8]
        total = feature.string_stats.common_stats.num_non_missing or 1
        shift = -0.2 if split == "train" else 0.2
        axes.bar(
            [row + shift for row in range(len(top))],
            [b.sample_count / total for b in top],
            0.4,
            color=colour,
            label=split,
        )
        axes.set_xticks(range(len(top)), [bucket.label for bucket in top], rotation=45)


def _pyplot() -> Any:
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  the backend is chosen first

    return plt
