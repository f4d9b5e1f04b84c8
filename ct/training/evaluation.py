"""Champion, Evaluator and Gate: the candidate against the version that serves, on rows that neither has learnt from."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

from functools import partial
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma
from tfx.components import Evaluator
from tfx.components.evaluator import executor
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.types import Artifact, artifact_utils, standard_artifacts, standard_component_specs
from tfx.utils import path_utils

from ct.config import PipelineConfig
from ct.contracts import Check
from ct.errors import UnscorableError
from ct.gate import judge
from ct.gate.unseen import learnt_from
from ct.home import write_atomically
from ct.rollout import ModelStore, quarantine_check
from ct.training.artifacts import Verdict, champion_version, saved_model_path
from ct.training.binary_metrics import BinaryMetrics
from ct.training.facts import report
from ct.training.run import Run, load_run
from ct.training.scores import EXAMPLES_SIGNATURE, SCORES, read_examples, score, unanswered, write_scores
from ct.training.tfma_metrics import (
    CANDIDATE,
    CHAMPION,
    confidence_intervals,
    measured_by_tfma,
    metrics_of,
    other_metrics,
)


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
    """TFX's executor, with a baseline only where something serves that can score these rows.

    A champion that cannot (it needs a feature that the data has no more) must not stop every candidate for ever: the
    candidate is measured alone, and the gate says that the two cannot be compared.
    """

    def Do(  # noqa: N802  TFX's name
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        key = standard_component_specs.BASELINE_MODEL_KEY
        champion = input_dict[key][0]
        split = eval_split(input_dict[standard_component_specs.EXAMPLES_KEY][0])
        comparable = champion_version(champion) is not None and unanswered(saved_model_path(champion), split) is None
        inputs = input_dict if comparable else {name: value for name, value in input_dict.items() if name != key}
        super().Do(inputs, output_dict, exec_properties)


class PairedEvaluator(Evaluator):
    """TFX's Evaluator (TFMA): candidate and champion score the same rows in one pass."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(_PairedExecutor)


def eval_config(config: PipelineConfig) -> tfma.EvalConfig:
    """What TFMA computes for both models, overall and for each value of each slicing feature.

    That is binary_metrics.NAMES and `evaluate.metrics`; with confidence intervals where a check of the gate needs them.
    """
    ours = tfma.MetricConfig(class_name=BinaryMetrics.__name__, module=BinaryMetrics.__module__)
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
        metrics_specs=[tfma.MetricsSpec(metrics=[ours, *other_metrics(config)])],
        options=confidence_intervals(config),
    )


@component
def Gate(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str],
    examples: InputArtifact[standard_artifacts.Examples],
    model: InputArtifact[standard_artifacts.Model],
    champion: InputArtifact[standard_artifacts.Model],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    verdict: OutputArtifact[Verdict],
) -> None:
    """Score every row of the gate's spans with both models, apply the policy, and write verdict and scores."""
    run, version = load_run(request_path), champion_version(champion)
    request, config = run.request, run.config
    candidate = saved_model_path(model)
    serving = None if version is None else saved_model_path(champion)
    rows = read_examples(eval_split(examples))
    no_comparison = None if version is None else _no_comparison(run, version)
    scored = partial(score, rows, label=config.label, slices=config.evaluate.slices, candidate=candidate)
    try:
        scores = scored(champion=serving)
    except UnscorableError as error:
        if serving is None or error.facts.get("model") != str(serving):
            raise
        no_comparison = _cannot_compare(run, version, f"version {version} cannot be compared with: {error.message}")
        scores = scored(champion=None)
    if scores.champion_failures:
        found = f"it gives no finite number for {scores.champion_failures:,} of {scores.rows:,} rows"
        no_comparison = _cannot_compare(run, version, f"version {version} cannot be compared with: {found}")
    decision = judge(
        config=config.gate,
        scores=scores,
        champion_version=version,
        span="+".join(span.name for span in request.judged),
        holdout_days=config.window.first_span_holdout_days if request.holdout else None,
        seed=request.seed,
        others=measured_by_tfma(evaluation.uri, config, rows=scores.rows),
        model_mb=folder_mb(candidate),
        champion_mb=None if serving is None else folder_mb(serving),
        no_comparison=no_comparison,
        judged_sha256=[span.sha256 for span in request.judged],
        trained_sha256=[span.sha256 for span in request.trained],
        further=_quarantine_checks(run),
    )
    write_scores(scores, Path(verdict.uri) / SCORES)
    write_atomically(Path(verdict.uri) / "verdict.json", decision.model_dump_json(indent=2))
    report(
        f"{decision.outcome.value}: {decision.reason}",
        outcome=decision.outcome.value,
        reason=decision.reason,
        comparable=no_comparison is None,
        verdict=decision.model_dump(mode="json"),
    )


def eval_split(examples: standard_artifacts.Examples) -> Path:
    """The folder of the rows to judge on."""
    return Path(artifact_utils.get_split_uri([examples], "eval"))


def folder_mb(folder: Path) -> float:
    """Size of all files below a folder, in MB of a million bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _quarantine_checks(run: Run) -> list[Check]:
    """That this candidate is no version which was withdrawn, trained again; nothing while none is in quarantine."""
    store = ModelStore(run.home, run.request.pipeline)
    made_from = run.request.fingerprints(refit=run.config.refit)
    return [quarantine_check(store, made_from)] if store.quarantined() else []


def _no_comparison(run: Run, version: int) -> str | None:
    """Why candidate and champion cannot be compared fairly on these rows; None when they can."""
    manifest = ModelStore(run.home, run.request.pipeline).manifest(version)
    learnt = learnt_from(manifest, run.request, run.config.window.first_span_holdout_days)
    if not learnt:
        return None
    return _cannot_compare(
        run, version, f"version {version} has learnt from {', '.join(learnt)}, which flatters it there"
    )


def _cannot_compare(run: Run, version: int | None, why: str) -> str:
    name = run.request.pipeline
    return (
        f"{why}, so nobody can tell which is better; version {version} serves on. The next span decides, or somebody: "
        f"`ct rollout {name} --version N --force --reason ...`"
    )


def read_metrics(evaluation_uri: str, model_name: str) -> dict[str, dict[str, float]]:
    """Slice -> metric -> value of one model, from TFMA's files; empty when that model was not evaluated.

    Args:
        evaluation_uri: the Evaluator's output folder.
        model_name: `candidate` or `champion`.
    """
    names = {model_name} | ({""} if model_name == CANDIDATE else set())  # TFMA gives an only model no name
    found: dict[str, dict[str, float]] = {}
    for entry in metrics_of(evaluation_uri):
        if entry.model_name in names and not entry.is_difference:
            found.setdefault(entry.slice_name, {})[entry.metric] = entry.value
    return found
