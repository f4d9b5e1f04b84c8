"""What the watch has found so far: each signal an interval of 'worse by', and whether that is beyond the tolerance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ct.contracts import Value
from ct.gate.checks import is_comparison, is_gap
from ct.gate.scores import OVERALL
from ct.monitor.counters import ALL, Counts
from ct.monitor.losses import brier, misordered, mistaken
from ct.monitor.sequential import Sequence, of_counts, of_differences, of_values

if TYPE_CHECKING:
    from ct.contracts import Verdict
    from ct.monitor.compared import Compared
    from ct.monitor_config import MonitorConfig

Floats = np.ndarray[Any, np.dtype[np.float64]]
Measured = dict[str, tuple[float, float, float]]
"""Metric -> a version's value over all rows at the gate, and the ends of its interval."""

DRIFT_NEW, DRIFT_PREVIOUS = "drift", "drift of the previous"
FAST_SHARE = 0.95
"""The latency limit is the histogram's smallest edge that this share of the previous version's requests kept."""
THRESHOLDS: Floats = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
"""Where two distributions of probabilities are compared; close at both ends, for models of rare events."""
METRICS = ("brier", "auc", "binary_accuracy")
"""The gate's metrics that are means over rows, or over pairs of rows, and so can be followed on labels. Brier first: a change
of level, such as twice as many positives, ruins both versions' and leaves their AUC as it was."""


class Signal(Value):
    """One comparison. Positive is worse, whatever it is about; each end of the interval errs with a chance of `alpha`."""

    name: str
    value: float | None = Field(default=None, description="Of the version itself.")
    reference: float | None = Field(default=None, description="What it is compared with.")
    worse_by: float | None = Field(default=None, description="None before there is anything to compare.")
    low: float | None = None
    high: float | None = None
    tolerance: float
    rows: int = Field(default=0, ge=0)
    enough: int = Field(default=1, ge=1, description="Rows below which it does not speak.")
    alpha: float
    note: str = Field(default="", description="What it is about, or why there is nothing to compare.")

    @property
    def is_worse(self) -> bool:
        """Whether it is worse by more than the tolerance, surely."""
        return self.low is not None and self.low > self.tolerance and self.rows >= self.enough

    @property
    def is_fine(self) -> bool:
        """Whether it is not worse by more than the tolerance, surely."""
        return self.high is not None and self.high <= self.tolerance and self.rows >= self.enough

    @property
    def state(self) -> str:
        """`worse`, `fine`, or `open` while the data cannot tell."""
        return "worse" if self.is_worse else "fine" if self.is_fine else "open"


def signals_of(
    config: MonitorConfig,
    *,
    counts: Counts,
    previous_counts: Counts | None,
    compared: Compared,
    verdict: Verdict | None,
    previous_verdict: Verdict | None,
    previous: int | None = None,
    own_past: Counts | None = None,
    beside: bool = False,
) -> tuple[Signal, ...]:
    """Every signal of a watch.

    Args:
        config: which signals are on, alpha and the tolerances.
        counts: of the new version in this watch.
        previous_counts: of the previous version before it; None when there is none.
        compared: rows with predictions and labels.
        verdict: the gate's, of the new version; None when it is not known.
        previous_verdict: likewise.
        previous: the previous version's number; the new one's verdict may have measured it.
        own_past: of the new version before this watch, where nothing else is compared with; None when nothing was counted.
        beside: whether the previous version goes on answering, beside a canary.
    """
    alpha = config.alpha / len(config.signals) if config.signals else config.alpha
    found: list[Signal] = []
    if previous_counts is not None:
        limits = config.tolerance
        makers = {
            "errors": lambda: errors(counts, previous_counts, limits.errors, alpha, least=config.min_rows),
            "latency": lambda: latency(counts, previous_counts, limits.latency, alpha, beside=beside),
            "shift": lambda: shift(compared, limits.shift, alpha),
            "quality": lambda: quality(compared, limits.quality, alpha),
        }
        found = [makers[name]() for name in config.signals]
    elif own_past is not None:
        own = {
            "errors": errors(counts, own_past, config.tolerance.errors, alpha, least=config.min_rows),
            "latency": latency(counts, own_past, config.tolerance.latency, alpha),
        }
        found = [
            signal.model_copy(update={"note": f"{signal.note}, against what it was before"})
            for name, signal in own.items()
            if name in config.signals
        ]
    elif "errors" in config.signals:
        found = [errors(counts, Counts(), config.tolerance.errors, alpha)]
    drifts = [(DRIFT_NEW, at_gate(verdict), compared.labelled_new)]
    if previous_counts is not None and compared.labelled_previous is not None:
        measured = at_gate(previous_verdict)
        if verdict is not None and verdict.champion_version == previous:
            measured = _champion_at_gate(verdict) | measured
        drifts.append((DRIFT_PREVIOUS, measured, compared.labelled_previous))
    # The two losses are compared with each other, and so in one metric where there is one that both have.
    of_all = set(METRICS).intersection(*(measured for _, measured, _ in drifts)) or set(METRICS)
    found += [
        drift(
            name,
            {metric: value for metric, value in measured.items() if metric in of_all},
            predicted,
            compared.labels,
            config.tolerance.drift,
            config.alpha,
        )
        for name, measured, predicted in drifts
    ]
    return tuple(signal.model_copy(update={"enough": config.min_rows}) for signal in found)


def errors(new: Counts, previous: Counts, tolerance: float, alpha: float, *, least: int = 1) -> Signal:
    """Share of requests that failed; against none at all where next to nothing was counted of the previous version.

    That is fewer than `least`, of which none failed: their interval is so wide that nothing could be above it.
    Either way the share's own interval is at half of alpha: a canary's champion may begin to answer within the watch.
    """
    signal = Signal(name="errors", tolerance=tolerance, alpha=alpha, note="share of requests answered with 5xx")
    if new.requests and previous.requests < least and not previous.failed:
        now = of_counts(new.failed, new.requests, alpha / 2)
        signal = signal.model_copy(update={"note": f"{signal.note}; too few were counted before, so against none"})
        return _with(signal, now, now.mean, 0.0)
    return _of_shares(signal, (new.failed, new.requests), (previous.failed, previous.requests))


def latency(new: Counts, previous: Counts, tolerance: float, alpha: float, *, beside: bool = False) -> Signal:
    """Share of requests slower than what nearly all of the previous version's kept.

    The limit is one of the histogram's edges, chosen by what the previous version did. Where that goes on answering beside a
    canary the choice may change from look to look, and the interval of either side holds for every edge.
    """
    signal = Signal(name="latency", tolerance=tolerance, alpha=alpha, note="the previous version answered nothing yet")
    requests = previous.buckets.get(ALL, 0)
    edges = sorted((limit for limit in previous.buckets if limit != ALL), key=float)
    kept = [limit for limit in edges if requests and previous.buckets[limit] >= FAST_SHARE * requests]
    if not kept:
        return (
            signal
            if not requests
            else signal.model_copy(update={"note": "the previous version was slower than any edge"})
        )
    limit = kept[0]
    signal = signal.model_copy(update={"note": f"share of requests that took more than {float(limit) * 1000:g} ms"})
    shares = [(of.buckets.get(ALL, 0) - of.buckets.get(limit, 0), of.buckets.get(ALL, 0)) for of in (new, previous)]
    return _of_shares(signal, shares[0], shares[1], choices=(len(edges) if beside else 1, len(edges)))


def shift(compared: Compared, tolerance: float, alpha: float) -> Signal:
    """Largest distance of the two distribution functions of predictions, on the same rows, at THRESHOLDS."""
    signal = Signal(name="shift", tolerance=tolerance, alpha=alpha, note="no row that both versions predicted yet")
    if compared.previous is None or not len(compared.new):
        return signal
    new, previous = compared.new, compared.previous
    each = alpha / (2 * len(THRESHOLDS))
    below = [
        of_differences((new <= threshold).astype(np.float64) - (previous <= threshold), each)
        for threshold in THRESHOLDS
    ]
    return signal.model_copy(
        update={
            "value": float(np.nanmean(new)),
            "reference": float(np.nanmean(previous)),
            "worse_by": max(abs(at.mean) for at in below),
            "low": max(0.0, *(at.low for at in below), *(-at.high for at in below)),
            "high": max(max(at.high, -at.low) for at in below),
            "rows": len(new),
            "note": "distance of the distributions of predictions on the same rows; value and reference are their means",
        }
    )


def quality(compared: Compared, tolerance: float, alpha: float) -> Signal:
    """Brier score on labelled rows, above the previous version's on the same rows."""
    signal = Signal(name="quality", tolerance=tolerance, alpha=alpha, note="no row with a label yet")
    if compared.labelled_previous is None or not len(compared.labels):
        return signal
    new, previous = (brier(of, compared.labels) for of in (compared.labelled_new, compared.labelled_previous))
    found = of_differences(new - previous, alpha)
    signal = signal.model_copy(update={"note": "Brier score on the same labelled rows"})
    return _with(signal, found, float(new.mean()), float(previous.mean()))


def drift(name: str, measured: Measured, predicted: Floats, labels: Floats, tolerance: float, alpha: float) -> Signal:
    """How far a version has fallen behind what the gate measured, in the first of METRICS that was.

    What the gate measured is itself a sample: where its check has an interval of the value, the loss then is that interval.
    """
    signal = Signal(name=name, tolerance=tolerance, alpha=alpha, note="the gate measured none of " + ", ".join(METRICS))
    metric = next((metric for metric in METRICS if metric in measured), None)
    if metric is None:
        return signal
    losses = {"brier": brier, "auc": misordered, "binary_accuracy": mistaken}[metric](predicted, labels)
    value, low, high = measured[metric]
    signal = signal.model_copy(update={"note": f"{metric} behind what the gate measured", "reference": value})
    if not len(losses):
        return signal
    is_loss = metric == "brier"
    then, least, most = (value, low, high) if is_loss else (1.0 - value, 1.0 - high, 1.0 - low)
    found = of_values(losses, alpha)
    moved = Sequence(found.mean - then, found.low - most, found.high - least, found.rows, alpha)
    return _with(signal, moved, found.mean if is_loss else 1.0 - found.mean, value)


def _champion_at_gate(verdict: Verdict) -> Measured:
    """Metric -> what a verdict measured of the champion, on the rows that the candidate was judged on.

    The champion's own verdict may be from before there was the metric on record.
    """
    return {
        check.metric: (check.baseline, check.baseline, check.baseline)
        for check in verdict.checks
        if check.slice == OVERALL and check.baseline is not None and not is_gap(check)
    }


def at_gate(verdict: Verdict | None) -> Measured:
    """Metric -> the version's value over all rows at the gate, and the ends of its interval.

    A check of the value itself counts before a comparison with the champion, whose interval is of the difference. Where no
    interval is of the value, the value is both ends.
    """
    found: Measured = {}
    checks = verdict.checks if verdict else ()
    for check in sorted(checks, key=is_comparison):
        if check.metric in found or check.slice != OVERALL or check.value is None or is_gap(check):
            continue
        low, high = (None, None) if is_comparison(check) else (check.low, check.high)
        found[check.metric] = (check.value, check.value if low is None else low, check.value if high is None else high)
    return found


def _of_shares(
    signal: Signal, new: tuple[int, int], previous: tuple[int, int], choices: tuple[int, int] = (1, 1)
) -> Signal:
    """Two shares: each gets half of alpha, and one whose limit was chosen among several, or may change, pays for that."""
    if not new[1] or not previous[1]:
        return signal.model_copy(update={"note": f"{signal.note}: nothing to compare with yet"})
    now, then = (
        of_counts(*share, signal.alpha / 2 / among) for share, among in zip((new, previous), choices, strict=True)
    )
    apart = Sequence(now.mean - then.mean, now.low - then.high, now.high - then.low, now.rows, signal.alpha)
    return _with(signal, apart, now.mean, then.mean)


def _with(signal: Signal, found: Sequence, value: float, reference: float) -> Signal:
    return signal.model_copy(
        update={
            "value": value,
            "reference": reference,
            "worse_by": found.mean,
            "low": found.low,
            "high": found.high,
            "rows": found.rows,
        }
    )
