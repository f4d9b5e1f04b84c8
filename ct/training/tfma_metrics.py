"""TFMA's metrics beside the gate's own: how they are asked for, and what TFMA's files say of them, intervals included."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from scipy import stats

from ct.gate import OVERALL, Estimate, Measured, level_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct.config import MetricConfig, PipelineConfig

CANDIDATE, CHAMPION = "candidate", "champion"
SIGNS = {"higher": 1.0, "lower": -1.0}
"""What a difference is multiplied by, so that it is positive when the candidate is better."""


@dataclass(frozen=True)
class Entry:
    """One number in TFMA's files."""

    slice_name: str
    """`overall`, or `feature=value`."""

    model_name: str
    metric: str
    is_difference: bool
    """Candidate minus champion, on the same rows."""

    value: float
    standard_error: float | None
    degrees_of_freedom: int | None
    """Of the t distribution that the interval is from; None without an interval."""


def other_metrics(config: PipelineConfig) -> list[tfma.MetricConfig]:
    """`evaluate.metrics`, as TFMA wants them."""
    return [tfma_metric(metric) for metric in config.evaluate.metrics]


def tfma_metric(metric: MetricConfig) -> tfma.MetricConfig:
    """One of them."""
    return tfma.MetricConfig(
        class_name=metric.class_name,
        module=metric.module or "",
        config=json.dumps({"name": metric.name, **metric.config}),
    )


def confidence_intervals(config: PipelineConfig) -> tfma.Options:
    """TFMA's jackknife, where a check of the gate names one of `evaluate.metrics`: it measures everything twenty times.

    Which rows are left out together follows from the order in which Beam hands them on, so that such an interval is not the
    same again to the last digit.
    """
    asked = wrappers_pb2.BoolValue(value=bool(_named(config)))
    method = tfma.ConfidenceIntervalOptions(method=tfma.ConfidenceIntervalOptions.JACKKNIFE)
    return tfma.Options(compute_confidence_intervals=asked, confidence_intervals=method)


def metrics_of(evaluation_uri: str) -> Iterator[Entry]:
    """Every number in the Evaluator's output folder; those that are undefined on their rows are left out."""
    for record in tfma.load_metrics(evaluation_uri):
        name = _slice_name(record.slice_key)
        for found in record.metric_keys_and_values:
            value = found.value.double_value.value
            if found.value.WhichOneof("type") != "double_value" or math.isnan(value):
                continue
            interval = found.confidence_interval if found.HasField("confidence_interval") else None
            yield Entry(
                slice_name=name,
                model_name=found.key.model_name,
                metric=found.key.name,
                is_difference=found.key.is_diff,
                value=value,
                standard_error=None if interval is None else interval.standard_error.double_value.value,
                degrees_of_freedom=None if interval is None else int(interval.degrees_of_freedom.value),
            )


def measured_by_tfma(evaluation_uri: str, config: PipelineConfig, *, rows: int) -> dict[str, Measured]:
    """Those of `evaluate.metrics` that checks of the gate name, overall, with intervals at the policy's level."""
    named = _named(config)
    if not named:
        return {}
    level = level_of(config.gate)
    entries = [entry for entry in metrics_of(evaluation_uri) if entry.slice_name == OVERALL]
    champions = {entry.metric: entry for entry in entries if entry.model_name == CHAMPION}
    gains = {entry.metric: entry for entry in entries if entry.is_difference}
    candidates = {
        entry.metric: entry for entry in entries if entry.model_name in (CANDIDATE, "") and not entry.is_difference
    }
    signs = {metric.name: SIGNS[metric.better] for metric in config.evaluate.metrics if metric.better is not None}
    return {
        name: Measured(
            value=_estimate(candidates.get(name), level),
            baseline=champions[name].value if name in champions else None,
            gain=_estimate(gains.get(name), level, sign=signs[name]) if name in champions and name in signs else None,
            rows=rows,
        )
        for name in named
    }


def _named(config: PipelineConfig) -> list[str]:
    ours = {metric.name for metric in config.evaluate.metrics}
    return sorted({check.metric for check in config.gate.checks} & ours)


def _estimate(entry: Entry | None, level: float, *, sign: float = 1.0) -> Estimate:
    if entry is None:
        return Estimate(None)
    value = sign * entry.value
    if entry.standard_error is None or entry.degrees_of_freedom is None:
        return Estimate(value)
    half = float(stats.t.ppf((1 + level) / 2, entry.degrees_of_freedom)) * entry.standard_error
    method = f"TFMA's jackknife, {entry.degrees_of_freedom + 1} parts"
    return Estimate(value, value - half, value + half, level, method)


def _slice_name(key: Any) -> str:
    parts = [f"{part.column}={_value(part)}" for part in key.single_slice_keys]
    return ",".join(parts) or OVERALL


def _value(part: Any) -> Any:
    kind = part.WhichOneof("kind")
    value = getattr(part, kind)
    return value.decode("utf-8") if isinstance(value, bytes) else value
