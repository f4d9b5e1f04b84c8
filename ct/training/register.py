"""Register: the run's whole record in MLflow, and its model as a version in the model store, whatever the verdict."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from ct import contracts
from ct.contracts import Approval, Feature, Outcome, RefitAgreement, VersionManifest
from ct.errors import NodeFailedError, NothingToProveError, RolloutError
from ct.home import write_atomically
from ct.registry import MlflowRegistry, RegisteredVersion
from ct.rollout import ModelStore, tree_sha256
from ct.settings import Settings
from ct.training import record
from ct.training.artifacts import Registration, Verdict, saved_model_path
from ct.training.evaluation import eval_split
from ct.training.facts import report
from ct.training.findings import Validation
from ct.training.rows import Rows, predict, predict_examples, sample_rows, signature_features
from ct.training.run import Run, load_run
from ct.verdict_page import render_version
from ct.verdict_page.record import approval_of

MODEL_ARTIFACT = "model"
EXAMPLE_ROWS = 32
"""Rows whose offline predictions serving must reproduce before it serves the version."""
VERDICT_PAGE = "verdict.html"


@component
def Register(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str],
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    schema: InputArtifact[standard_artifacts.Schema],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    verdict: InputArtifact[Verdict],
    registration: OutputArtifact[Registration],
    refit_model: InputArtifact[standard_artifacts.Model] = None,
) -> None:
    """Log the run and register its model as a version, in MLflow and in the model store.

    An approved candidate's version is the model that will serve, refitted where the pipeline says so; any other's is the very
    model that was judged, so that it can be looked at, shadowed, or forced. Running again for the same run registers nothing
    twice.

    Raises:
        RegistryError: MLflow refused or did not answer; nothing was rolled out.
        NothingToProveError: no row has a value for each feature that the model serves.
        NodeFailedError: the refitted model does not agree with the candidate that was judged.
        RolloutError: an earlier attempt of this run made another model of this version, and serving has that loaded.
    """
    run, decision = load_run(request_path), verdict.read()
    approval = approval_of(run.home, run.request.run_id)
    is_approved = approval.approved if approval else decision.outcome is Outcome.APPROVED
    refit = refit_model if is_approved else None
    registry = MlflowRegistry(Settings.load(run.home).mlflow_base_url)
    mlflow_run_id = run.request.mlflow_run_id or registry.begin_run(run.request, run.spec)
    saved_model = saved_model_path(refit or model)
    values = record.values(run, decision, evaluation.uri, refit=refit is not None)
    values["tags"] |= {"ct.data_warnings": warnings_of(anomalies.uri)}
    registry.log(mlflow_run_id, **values)
    with tempfile.TemporaryDirectory() as folder:
        sources = record.Sources(statistics.uri, anomalies.uri, schema.uri, evaluation.uri)
        record.write_files(run, decision, sources, Path(folder))
        registry.log_files(mlflow_run_id, Path(folder))
    features = signature_features(saved_model)
    rows = rows_to_prove_with(eval_split(examples), features, run)
    agreement = None
    if refit is not None:
        agreement = agreement_of(saved_model_path(model), saved_model, rows, run.config.gate.refit_band)
        require_agreement(agreement)
    proof = predict_examples(saved_model, rows.head(EXAMPLE_ROWS))
    with tempfile.TemporaryDirectory() as folder:
        record.write_mlflow_model(Path(folder), saved_model, features, proof, mlflow_run_id)
        registry.log_files(mlflow_run_id, Path(folder), MODEL_ARTIFACT)
    version = registry.register(run.request.pipeline, mlflow_run_id, MODEL_ARTIFACT, description=decision.reason)
    made = _manifest(run, decision, version, saved_model, features, approval, agreement)
    manifest = stage_version(ModelStore(run.home, made.name), made, saved_model, proof)
    registry.tag_version(manifest.name, manifest.version, tags_of(manifest))
    _log_verdict_page(registry, manifest)
    registry.finish_run(mlflow_run_id)
    write_atomically(Path(registration.uri) / "manifest.json", manifest.model_dump_json(indent=2))
    report(
        f"version {manifest.version} of {manifest.name} registered, {_standing(manifest)}",
        version=manifest.version,
        may_serve=manifest.may_serve,
        mlflow_run_id=mlflow_run_id,
    )


def warnings_of(anomalies_uri: str) -> str:
    """What the validator warned of, a finding after the other; `findings.json`, which is logged too, has all of it."""
    text = (Path(anomalies_uri) / "findings.json").read_text(encoding="utf-8")
    warnings = Validation.model_validate_json(text).warnings
    return "; ".join(finding.line for finding in warnings)


def rows_to_prove_with(split: Path, features: tuple[Feature, ...], run: Run) -> Rows:
    """The sample of the judged rows that the version's record and its proof rest on.

    Raises:
        NothingToProveError: no row has a value for each feature.
    """
    rows = sample_rows(split, features, run.config.label, run.request.seed)
    if len(rows) == 0:
        request, needed = run.request, ", ".join(feature.name for feature in features)
        spans = "+".join(span.name for span in request.judged)
        raise NothingToProveError(
            f"No row of {spans} has a label and a finite value for each feature that the model serves ({needed}), and without "
            f"such a row serving cannot prove the model's predictions. No version was registered; what served before serves "
            f"on. `ct data {request.pipeline} {request.judged[-1].name}` shows what is missing: fill it where the data is "
            f"made, or take the feature out of the model, and deploy.",
            name=request.pipeline,
            features=[feature.name for feature in features],
        )
    return rows


def agreement_of(candidate: Path, refit: Path, rows: Rows, band: float) -> RefitAgreement:
    """How a refitted model does beside its twin, on rows that the twin was judged on and the refit has learnt from.

    Args:
        candidate: SavedModel of the twin.
        refit: SavedModel of the refit.
        rows: raw rows with labels.
        band: `gate.refit_band`.

    Raises:
        NodeFailedError: the refit predicts values that are not finite.
    """
    scores, twin = predict(refit, rows.features), predict(candidate, rows.features)
    if not np.isfinite(scores).all():
        raise NodeFailedError("The refitted model predicts values that are not finite. No version was registered.")
    has_both_classes = len(set(rows.labels)) > 1
    positive = float(rows.labels.mean())
    return RefitAgreement(
        rows=len(rows.labels),
        band=band,
        auc=float(roc_auc_score(rows.labels, scores)) if has_both_classes else None,
        twin_auc=float(roc_auc_score(rows.labels, twin)) if has_both_classes else None,
        level_error=abs(float(scores.mean()) - positive),
        twin_level_error=abs(float(twin.mean()) - positive),
        mean_difference=float(np.abs(scores - twin).mean()),
    )


def require_agreement(agreement: RefitAgreement) -> None:
    """A refit carries its twin's verdict, so it must not be a worse model: neither in how it ranks, nor in its level.

    It has seen the rows, so it may well be better on them. Its AUC must be no more than the band below its twin's, and its mean
    prediction no more than the band further from the share of positive labels.

    Raises:
        NodeFailedError: it is worse in one of the two.
    """
    apart = []
    if (
        agreement.auc is not None
        and agreement.twin_auc is not None
        and agreement.auc < agreement.twin_auc - agreement.band
    ):
        apart.append(f"its AUC is {agreement.auc:.4f}, its twin's {agreement.twin_auc:.4f}")
    if agreement.level_error > agreement.twin_level_error + agreement.band:
        apart.append(
            f"its mean prediction is {agreement.level_error:.4f} from the share of positive labels, its twin's "
            f"{agreement.twin_level_error:.4f}"
        )
    if apart:
        raise NodeFailedError(
            f"The refitted model does not agree with the candidate that was judged, on {agreement.rows} rows that it has "
            f"learnt from: {' and '.join(apart)}, and gate.refit_band allows {agreement.band:g}. No version was registered; "
            f"what served before serves on.",
            **agreement.model_dump(),
        )


def stage_version(
    store: ModelStore, manifest: VersionManifest, saved_model: Path, proof: Mapping[str, Any]
) -> VersionManifest:
    """Put a version into the model store. One that an earlier attempt of the run has put there stays as it is.

    Returns:
        The manifest that is in the store.

    Raises:
        RolloutError: the version is there with another model, and serving has that loaded.
    """
    if manifest.version in store.versions():
        known = store.manifest(manifest.version)
        if (known.saved_model_sha256, known.approval) == (manifest.saved_model_sha256, manifest.approval):
            return known
        desired = store.desired()
        if desired is not None and manifest.version in desired.warm:
            raise RolloutError(
                f'Run {manifest.run_id} made version {manifest.version} of "{manifest.name}" in an earlier attempt, and '
                f"serving has that loaded. Its files were not replaced. Trigger a new run with `ct trigger {manifest.name}`.",
                name=manifest.name,
                version=manifest.version,
            )
    store.stage(saved_model, manifest, dict(proof))
    return manifest


def tags_of(manifest: VersionManifest) -> dict[str, str]:
    """What MLflow's version says at a glance."""
    tags = {"ct.verdict": manifest.verdict.outcome.value, "ct.fingerprint": manifest.fingerprint}
    if manifest.approval is not None:
        answer = "approved" if manifest.approval.approved else "rejected"
        tags["ct.approval"] = f"{answer} by {manifest.approval.by}: {manifest.approval.reason}"
    if manifest.agreement is not None:
        tags["ct.refit_agreement"] = manifest.agreement.model_dump_json()
    return tags


def _standing(manifest: VersionManifest) -> str:
    """Whether it may serve, in words."""
    if manifest.may_serve:
        return "approved" if manifest.approval is None else f"approved by {manifest.approval.by}"
    if manifest.approval is not None:
        return f"rejected by {manifest.approval.by}: {manifest.approval.reason}"
    return f"{manifest.verdict.outcome.value}: {manifest.verdict.reason}"


def _log_verdict_page(registry: MlflowRegistry, manifest: VersionManifest) -> None:
    """The verdict as a page among the run's artifacts in MLflow."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / VERDICT_PAGE).write_text(render_version(manifest), encoding="utf-8")
        registry.log_files(str(manifest.mlflow_run_id), Path(folder))


def _manifest(
    run: Run,
    decision: contracts.Verdict,
    version: RegisteredVersion,
    saved_model: Path,
    features: tuple[Feature, ...],
    approval: Approval | None,
    agreement: RefitAgreement | None,
) -> VersionManifest:
    return VersionManifest(
        name=version.name,
        version=version.version,
        created_at=datetime.now(timezone.utc),
        run_id=run.request.run_id,
        mlflow_run_id=version.mlflow_run_id,
        features=features,
        label=run.config.label,
        spans=run.request.spans,
        refit=agreement is not None,
        verdict=decision,
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=run.config.serving.prediction_tolerance,
        spec_hash=run.request.spec_hash,
        recipe_hash=run.request.recipe_hash,
        seed=run.request.seed,
        approval=approval,
        agreement=agreement,
        made_with=run.made_with(refit=agreement is not None),
    )
