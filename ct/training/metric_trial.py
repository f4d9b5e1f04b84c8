"""`evaluate.metrics`, tried at deploy: each is made and measures a few made-up rows, as the Evaluator will measure real ones.

TFMA's combiners are called in memory; a Beam pipeline would cost seconds, and this costs milliseconds a metric.
"""

from __future__ import annotations

import difflib
import inspect
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import convert_metric_value_to_proto

from ct.errors import ConfigError
from ct.sources.reader import ColumnType
from ct.training.evaluation import eval_config
from ct.training.schema import columns_of
from ct.training.tfma_metrics import CANDIDATE, CHAMPION, tfma_metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tensorflow_metadata.proto.v0 import schema_pb2

    from ct.config import MetricConfig, PipelineConfig

ROWS = 16
"""Of both classes, with probabilities all over [0, 1], in two parts that are merged."""
SHOWN_NAMES, SHOWN_CHARACTERS = 5, 300
_DTYPES = {ColumnType.STRING: np.object_, ColumnType.INT: np.int64, ColumnType.FLOAT: np.float32}


def check_metrics(config: PipelineConfig, schema: schema_pb2.Schema) -> None:
    """Every metric of `evaluate.metrics` can be measured, and gives one number where a check of the gate names it.

    Raises:
        ConfigError: one cannot, or gives something else; the message says what, and what to write instead.
    """
    checked = {check.metric for check in config.gate.checks}
    problems = []
    for metric in config.evaluate.metrics:
        try:
            found = _measured(metric, config, schema)
        except Exception as error:  # noqa: BLE001  TFMA, Keras or the metric's own code may raise anything
            problems.append(f"evaluate.metrics: `{metric.name}` cannot be measured: {_cause(metric, error)}")
            continue
        if metric.name in checked and not _is_number(_of_candidate(metric, found)):
            problems.append(
                f"gate.checks: `{metric.name}`: {metric.class_name} gives {_told(metric, found)}, and a check needs one "
                f"number, else it never decides; write for example `{_with_one_number(metric)}`"
            )
    if problems:
        lines = ["pipeline.yaml is not valid. Nothing was deployed.", *(f"  - {problem}" for problem in problems)]
        raise ConfigError("\n".join(lines), problems=problems)


def _measured(
    metric: MetricConfig, config: PipelineConfig, schema: schema_pb2.Schema
) -> dict[metric_types.MetricKey, Any]:
    """What comes out for candidate and champion, by TFMA's keys."""
    asked = eval_config(config)
    del asked.metrics_specs[:]
    asked.metrics_specs.append(tfma.MetricsSpec(metrics=[tfma_metric(metric)]))
    asked = tfma.utils.update_eval_config_with_defaults(asked, has_baseline=True)
    found: dict[metric_types.MetricKey, Any] = {}
    for computation in metric_specs.to_computations(asked.metrics_specs, eval_config=asked, schema=schema):
        if isinstance(computation, metric_types.MetricComputation):
            found.update(_combined(computation, _made_up(schema)))
        elif isinstance(computation, metric_types.DerivedMetricComputation):
            found.update(computation.result(found))
    return {key: value for key, value in found.items() if not key.name.startswith("_")}  # TFMA's own intermediate ones


def _combined(computation: metric_types.MetricComputation, rows: Sequence[Mapping[str, Any]]) -> Mapping[Any, Any]:
    """What a combiner says of the rows."""
    inputs: Iterable[Any] = map(metric_types.StandardMetricInputs, rows)
    for preprocessor in computation.preprocessors:
        if type(preprocessor) is not metric_types.StandardMetricInputsPreprocessor:  # that one only leaves keys out
            inputs = [output for row in inputs for output in preprocessor.process(row)]
    given, combiner = list(inputs), computation.combiner
    combiner.setup()
    halves = (given[: len(given) // 2], given[len(given) // 2 :])
    parts = [combiner.add_inputs(combiner.create_accumulator(), half) for half in halves]
    said: Mapping[Any, Any] = combiner.extract_output(combiner.merge_accumulators(parts))
    return said


POSITIVE = (3, 7, 9, 10, 12, 13, 15)
"""The made-up rows of the positive class: no two rates of the candidate's are equal by chance, which some metrics divide by."""


def _made_up(schema: schema_pb2.Schema) -> list[dict[str, Any]]:
    """TFMA's extracts of rows that no span has; each feature has its least value, or none to speak of."""
    features: dict[str, np.ndarray] = {
        column.name: np.array([b"" if column.type is ColumnType.STRING else column.minimum or 0], _DTYPES[column.type])
        for column in columns_of(schema)
    }
    return [
        {
            "labels": np.array([int(row in POSITIVE)]),
            "predictions": {
                CANDIDATE: np.array([(row + 0.5) / ROWS], np.float32),
                CHAMPION: np.array([1 - (row + 0.5) / ROWS], np.float32),
            },
            "example_weights": np.array([1.0]),
            "features": features,
        }
        for row in range(ROWS)
    ]


def _of_candidate(metric: MetricConfig, found: Mapping[metric_types.MetricKey, Any]) -> list[Any]:
    """What the gate would read as the metric's value: nothing, or what TFMA measured."""
    return [
        value
        for key, value in found.items()
        if (key.name, key.model_name, key.is_diff) == (metric.name, CANDIDATE, False)
        and not isinstance(key, metric_types.PlotKey)
    ]


def _is_number(values: Sequence[Any]) -> bool:
    return [_kind(value) for value in values] == ["double_value"]


def _kind(value: Any) -> str:
    """How TFMA writes it into its files, from which the gate reads it."""
    return str(convert_metric_value_to_proto(value).WhichOneof("type"))


def _told(metric: MetricConfig, found: Mapping[metric_types.MetricKey, Any]) -> str:
    """What came out instead of a number, in words."""
    values = _of_candidate(metric, found)
    if len(values) == 1:
        (value,) = values
        return f"{value.size:,} numbers" if isinstance(value, np.ndarray) else f"a {_kind(value).replace('_', ' ')}"
    if any(isinstance(key, metric_types.PlotKey) for key in found):
        return "a plot"
    if any(key.is_diff for key in found):
        return "how far both models are apart, and no value of either"
    others = sorted({key.name for key in found})
    shown = ", ".join(others[:SHOWN_NAMES]) + (", ..." if len(others) > SHOWN_NAMES else "")
    return f"nothing of that name, but {shown}" if others else "nothing"


def _with_one_number(metric: MetricConfig) -> str:
    """A metric that a check can name: this one with the first of its several thresholds, or Recall."""
    several = next((key for key, value in metric.config.items() if isinstance(value, list) and len(value) > 1), None)
    name, arguments = "Recall", {"thresholds": 0.5}
    if several is not None and metric.class_name != "ConfusionMatrixAtThresholds":
        name, arguments = metric.class_name, {**metric.config, several: metric.config[several][0]}
    written = ", ".join(f"{key}: {json.dumps(value)}" for key, value in arguments.items())
    return f"{{name: {metric.name}, class_name: {name}, config: {{{written}}}}}"


def _cause(metric: MetricConfig, error: Exception) -> str:
    known = sorted({*metric_types.registered_metrics(), *_of_keras()})
    if metric.module is None and metric.class_name not in known:
        near = difflib.get_close_matches(metric.class_name, known, n=1)
        advice = f"did you mean `{near[0]}`? If not, say" if near else "say"
        return f"TFMA and Keras have no metric `{metric.class_name}`; {advice} with `module` where it is"
    told = next((line for line in str(error).splitlines() if line.strip()), "")[:SHOWN_CHARACTERS]
    return f"{metric.class_name}: {type(error).__name__}: {told}; correct its `config`, or take the metric out"


def _of_keras() -> list[str]:
    members = inspect.getmembers(tf.keras.metrics, inspect.isclass)
    return [name for name, kind in members if issubclass(kind, tf.keras.metrics.Metric)]
