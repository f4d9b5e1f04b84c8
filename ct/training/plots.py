"""Plots for people who would rather look than read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from tensorflow_metadata.proto.v0 import statistics_pb2

from ct.contracts import CheckOutcome
from ct.gate import OVERALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ct.contracts import Verdict

CANDIDATE, CHAMPION = "#0b6e4f", "#3066be"
DPI = 110
OUTCOME_COLOURS = {CheckOutcome.PASS: CANDIDATE, CheckOutcome.FAIL: "#b3261e", CheckOutcome.INCONCLUSIVE: "#8a6d00"}
COLOURS = {"train": CHAMPION, "eval": CANDIDATE}
VALUES_SHOWN = 8
COLUMNS = 4
INCHES_A_ROW = 0.28


def plot_verdict(verdict: Verdict, path: Path) -> None:
    """What the gate compared, a line a check: by how much the candidate is better, with its interval and the margin.

    Without a champion the candidate's values, with their intervals and bounds.
    """
    plt = _pyplot()
    compared = [check for check in verdict.checks if check.difference is not None]
    shown = compared or [check for check in verdict.checks if check.value is not None]
    checks = sorted(shown, key=lambda check: (check.slice != OVERALL, check.slice), reverse=True)
    figure, axes = plt.subplots(figsize=(8.5, 1.8 + INCHES_A_ROW * len(checks)), layout="constrained")
    for row, check in enumerate(checks):
        centre = check.difference if compared else check.value
        colour = OUTCOME_COLOURS[check.outcome]
        if check.low is not None and check.high is not None:
            axes.plot([check.low, check.high], [row, row], color=colour, linewidth=2, alpha=0.6, zorder=2)
        axes.scatter(centre, row, color=colour, zorder=3, s=28 if check.blocking else 14)
        if check.threshold is not None:
            axes.plot([check.threshold] * 2, [row - 0.35, row + 0.35], color="#555555", linewidth=1.2, zorder=1)
    labels = [check.name if check.slice == OVERALL else f"{check.metric} on {check.slice}" for check in checks]
    axes.set_yticks(range(len(checks)), labels, fontsize=8)
    axes.set_ylim(-0.8, len(checks) - 0.2)
    against = f"better than version {verdict.champion_version} by" if compared else "the candidate's value"
    axes.set_xlabel(f"{against}, on {verdict.span} ({verdict.rows:,} rows); the upright line is what a check asks for")
    axes.set_title(verdict.outcome.value, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def plot_features(statistics: Path, path: Path, *, leave_out: Sequence[str] = ()) -> None:
    """Each feature's distribution in the train and eval splits, from TFDV's statistics.

    Args:
        statistics: StatisticsGen's output folder.
        path: the PNG to write.
        leave_out: features that have no distribution worth a look, such as a time stamp.
    """
    plt = _pyplot()
    splits = {name: _features(statistics / f"Split-{name}" / "FeatureStats.pb") for name in ("train", "eval")}
    names = sorted(splits["eval"].keys() - set(leave_out))
    rows = -(-len(names) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(13, 2.3 * rows), layout="constrained", squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        found = {split: features[name] for split, features in splits.items() if name in features}
        if splits["eval"][name].HasField("num_stats"):
            _draw_numbers(axes, found)
        else:
            _draw_texts(axes, found)
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


def _draw_numbers(axes: Any, found: Mapping[str, Any]) -> None:
    """A histogram a split, as steps."""
    for split, feature in found.items():
        histogram = next(h for h in feature.num_stats.histograms if h.type == statistics_pb2.Histogram.STANDARD)
        total = sum(bucket.sample_count for bucket in histogram.buckets) or 1
        shares = [bucket.sample_count / total for bucket in histogram.buckets]
        edges = [*(bucket.low_value for bucket in histogram.buckets), histogram.buckets[-1].high_value]
        axes.stairs(shares, edges, color=COLOURS[split], label=split, linewidth=1.5)


def _draw_texts(axes: Any, found: Mapping[str, Any]) -> None:
    """The values that are most frequent in the eval split, and their share in each."""
    labels = [bucket.label for bucket in found["eval"].string_stats.rank_histogram.buckets[:VALUES_SHOWN]]
    for shift, (split, feature) in zip((-0.2, 0.2), found.items(), strict=False):
        counts = {bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}
        total = feature.string_stats.common_stats.num_non_missing or 1
        shares = [counts.get(label, 0) / total for label in labels]
        axes.bar([row + shift for row in range(len(labels))], shares, 0.4, color=COLOURS[split], label=split)
    axes.set_xticks(range(len(labels)), labels, rotation=45)


def _pyplot() -> Any:
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  the backend is chosen first

    return plt
