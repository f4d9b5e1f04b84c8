"""Champion, Evaluator and Gate: the candidate against the version that serves, on rows that neither has learnt from."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma
from tfx.components import Evaluator
from tfx.components.evaluator import executor
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.types import Artifact, standard_artifacts, standard_component_specs
from tfx.utils import path_utils

from ct.config import PipelineConfig
from ct.gate import OVERALL, judge
from ct.home import write_atomically
from ct.rollout import ModelStore
from ct.training.artifacts import Verdict, champion_version
from ct.training.binary_metrics import COUNT, BinaryMetrics
from ct.training.facts import report
from ct.training.run import load_run

CANDIDATE, CHAMPION = "candidate", "champion"
EXAMPLES_SIGNATURE = "serving_examples"


@component
def Champion(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str], champion: OutputArtifact[standard_artifacts.Model]
) -> None:
    """The version that serves now, as a TFX Model; without one, a Model whose `version` property is empty.

    It is read from the model store's desired state: after a rollback the newest blessed model of ML Metadata is not what
    serves.
    """
    run = load_run(request_path)
    store = ModelStore(run.home, run.request.pipeline)
    desired = store.desired()
    champion.set_string_custom_property("version", str(desired.version) if desired else "")
    if desired is None:
        report("nothing serves yet", version=None)
        return
    link = Path(path_utils.serving_model_path(champion.uri))
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(store.version_path(desired.version) / "saved_model", target_is_directory=True)
    report(f"version {desired.version} serves now", version=desired.version)


class _PairedExecutor(executor.Executor):
    """TFX's executor, with a baseline only where something serves."""

    def Do(  # noqa: N802  TFX's name
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        key = standard_component_specs.BASELINE_MODEL_KEY
        has_champion = champion_version(input_dict[key][0]) is not None
        inputs = input_dict if has_champion else {name: value for name, value in input_dict.items() if name != key}
        super().Do(inputs, output_dict, exec_properties)


class PairedEvaluator(Evaluator):
    """TFX's Evaluator (TFMA): candidate and champion score the same rows in one pass."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(_PairedExecutor)


def eval_config(config: PipelineConfig) -> tfma.EvalConfig:
    """What TFMA computes: binary_metrics.NAMES of both models, overall and for each value of each slicing feature."""
    metric = tfma.MetricConfig(class_name=BinaryMetrics.__name__, module=BinaryMetrics.__module__)
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name, signature_name=EXAMPLES_SIGNATURE, label_key=config.label, is_baseline=name == CHAMPION
            )
            for name in (CANDIDATE, CHAMPION)
        ],
        slicing_specs=[
            tfma.SlicingSpec(),
            *(tfma.SlicingSpec(feature_keys=[feature]) for feature in config.evaluate.slices),
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=[metric])],
    )


@component
def Gate(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    champion: InputArtifact[standard_artifacts.Model],
    verdict: OutputArtifact[Verdict],
) -> None:
    """Apply the policy to what the Evaluator measured, and write the verdict."""
    run = load_run(request_path)
    version = champion_version(champion)
    candidate = read_metrics(evaluation.uri, CANDIDATE if version else "")
    decision = judge(
        config=run.config.gate,
        candidate=candidate,
        champion=read_metrics(evaluation.uri, CHAMPION) if version else None,
        champion_version=version,
        span=run.request.spans[-1].name,
        rows=int(candidate[OVERALL][COUNT]),
        holdout=len(run.request.spans) == 1,
    )
    write_atomically(Path(verdict.uri) / "verdict.json", decision.model_dump_json(indent=2))
    report(
        f"{decision.outcome.value}: {decision.reason}",
        outcome=decision.outcome.value,
        reason=decision.reason,
        verdict=decision.model_dump(mode="json"),
    )


def read_metrics(evaluation_uri: str, model_name: str) -> dict[str, dict[str, float]]:
    """Slice -> metric -> value of one model, from TFMA's files.

    Args:
        evaluation_uri: the Evaluator's output folder.
        model_name: `candidate` or `champion`; empty when only one model was evaluated.
    """
    result = tfma.load_eval_result(evaluation_uri, model_name=model_name or None)
    return {_slice_name(key): _numbers(outputs[""][""]) for key, outputs in result.slicing_metrics}


def _slice_name(key: tuple[tuple[str, Any], ...]) -> str:
    return ",".join(f"{feature}={value}" for feature, value in key) or OVERALL


def _numbers(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    values = {name: value["doubleValue"] for name, value in metrics.items() if "doubleValue" in value}
    return {name: float(value) for name, value in values.items() if not math.isnan(float(value))}
