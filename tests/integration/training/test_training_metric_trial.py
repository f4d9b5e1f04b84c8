"""`evaluate.metrics` on made-up rows, with real TFMA and Keras: what every run would stumble over is told at deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tiny_run import TINY, in_fork

from ct.config import PipelineConfig, load_pipeline_config
from ct.errors import ConfigError
from ct.training.metric_trial import check_metrics
from ct.training.schema import read_schema

if TYPE_CHECKING:
    from pathlib import Path

SIZES = """
from tensorflow_model_analysis.metrics import metric_types
import apache_beam as beam


class _Sum(beam.CombineFn):
    def __init__(self, keys):
        self._keys = keys

    def create_accumulator(self):
        return 0.0

    def add_input(self, total, row):
        return total + float(row.features["size"][0]) + len(row.features["kind"][0]) * float(row.label[0])

    def merge_accumulators(self, totals):
        return sum(totals)

    def extract_output(self, total):
        return {key: total for key in self._keys}


class Sizes(metric_types.Metric):
    def __init__(self, name):
        super().__init__(_computations, name=name)


def _computations(name, model_names=None):
    return [
        metric_types.MetricComputation(
            keys=[key], preprocessors=[metric_types.FeaturePreprocessor(["size", "kind"])], combiner=_Sum([key])
        )
        for key in (metric_types.MetricKey(name=name, model_name=model) for model in model_names)
    ]
"""
"""A metric of somebody's own, which reads columns of the row."""


def told_of(*metrics: dict[str, Any], checked: bool = True) -> str:
    """What deploying the tiny pipeline with these metrics says; nothing when all is well."""
    values = load_pipeline_config(TINY).model_dump(mode="json")
    values["evaluate"]["metrics"] = [{"name": f"m{number}", **metric} for number, metric in enumerate(metrics)]
    names = [metric["name"] for metric in values["evaluate"]["metrics"]]
    values["gate"]["checks"] = [{"metric": name, "at_least": 0} for name in names] if checked else []
    told: str = in_fork(_told, PipelineConfig.model_validate(values))
    return told


def _told(config: PipelineConfig) -> str:
    try:
        check_metrics(config, read_schema(TINY / "schema.pbtxt"))
    except ConfigError as error:
        return error.message
    return ""


def test_metrics_that_give_one_number_may_be_checked() -> None:
    """TFMA's, those that it derives from others, and Keras's."""
    classes = ("AUC", "AUCPrecisionRecall", "F1Score", "MeanSquaredError", "ExampleCount", "CosineSimilarity", "Hinge")
    thresholds = [{"class_name": "Recall", "config": {"thresholds": value}} for value in (0.5, [0.5])]
    assert not told_of(*({"class_name": name} for name in classes), *thresholds)


def test_metrics_that_divide_by_a_difference_of_rates_are_no_error() -> None:
    """On the made-up rows no rate equals another, and none is 0."""
    classes = ("PrevalenceThreshold", "DiagnosticOddsRatio", "PositiveLikelihoodRatio", "NegativeLikelihoodRatio")
    more = ("Informedness", "Markedness", "MatthewsCorrelationCoefficient", "FowlkesMallowsIndex", "ThreatScore")
    assert not told_of(*({"class_name": name} for name in (*classes, *more)))


def test_a_metric_of_ones_own_sees_the_columns_of_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it will in a run."""
    (tmp_path / "own_metrics.py").write_text(SIZES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not told_of({"class_name": "Sizes", "module": "own_metrics"})


SEVERAL = {"class_name": "Precision", "config": {"thresholds": [0.3, 0.5]}}
NO_NUMBER = [
    (
        {"class_name": "ConfusionMatrixAtThresholds", "config": {"thresholds": [0.3, 0.5]}},
        "a confusion matrix at thresholds",
    ),
    (SEVERAL, "2 numbers"),
    ({"class_name": "CalibrationPlot"}, "a plot"),
    ({"class_name": "SymmetricFlipRate"}, "how far both models are apart, and no value of either"),
    ({"class_name": "Recall", "config": {"name": "other", "thresholds": 0.5}}, "nothing of that name, but other"),
]


@pytest.mark.parametrize(("metric", "given"), NO_NUMBER, ids=[given for _, given in NO_NUMBER])
def test_a_checked_metric_that_gives_no_number_is_refused(metric: dict[str, Any], given: str) -> None:
    """A check of it would never decide; the message says what came out, and what it proposes instead does deploy."""
    told = told_of(metric)
    assert f"gate.checks: `m0`: {metric['class_name']} gives {given}, and a check needs one number" in told
    proposed = yaml.safe_load(told.split("for example `")[1].split("`")[0])
    assert proposed["name"] == "m0"
    assert not told_of(proposed)


def test_the_proposal_keeps_what_was_right() -> None:
    """The same class, with the first of its thresholds."""
    assert "`{name: m0, class_name: Precision, config: {thresholds: 0.3}}`" in told_of(SEVERAL)


def test_what_no_check_names_may_be_of_any_kind() -> None:
    """It is in TFMA's files all the same."""
    assert not told_of(*(metric for metric, _ in NO_NUMBER), checked=False)


@pytest.mark.parametrize(
    ("metric", "cause"),
    [
        (
            {"class_name": "Recal"},
            "TFMA and Keras have no metric `Recal`; did you mean `Recall`? If not, say with `module`",
        ),
        (
            {"class_name": "FairnessIndicators"},
            "TFMA and Keras have no metric `FairnessIndicators`; say with `module` where",
        ),
        ({"class_name": "Mine", "module": "nowhere"}, "Mine: ModuleNotFoundError: No module named 'nowhere'"),
        ({"class_name": "Recall", "config": {"thresold": 0.5}}, "unexpected keyword argument 'thresold'"),
        ({"class_name": "NDCG", "config": {"gain_key": "size"}}, "NDCG: ValueError: a query_key is required"),
    ],
    ids=["a typo", "a class of another package", "a module that is not there", "a wrong argument", "no binary metric"],
)
@pytest.mark.parametrize("checked", [True, False])
def test_a_metric_that_cannot_be_measured_is_refused(metric: dict[str, Any], cause: str, checked: bool) -> None:  # noqa: FBT001  the case
    """Whether a check names it or not, because the Evaluator of every run would fail."""
    told = told_of(metric, checked=checked)
    assert "Nothing was deployed.\n  - evaluate.metrics: `m0` cannot be measured: " in told
    assert cause in told
