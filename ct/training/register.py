"""Register: the run's whole record in MLflow, and its model as a version in the model store, whatever the verdict."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from ct import contracts
from ct.contracts import Approval, Feature, Outcome, VersionManifest
from ct.errors import NothingToProveError, RolloutError
from ct.home import write_atomically
from ct.registry import MlflowRegistry, RegisteredVersion
from ct.rollout import ModelStore, tree_sha256
from ct.settings import Settings
from ct.training import record
from ct.training.artifacts import Registration, Verdict, saved_model_path
from ct.training.evaluation import eval_split
from ct.training.facts import report
from ct.training.findings import Validation
from ct.training.refit import Compared, compare
from ct.training.rows import Rows, predict_examples, sample_rows, signature_features
from ct.training.run import Run, load_run
from ct.verdict_page import render_version
from ct.verdict_page.record import approval_of
from ct.verdict_page.words import answered

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
    model that was judged, so that it can be looked at, shadowed, or forced. So is that of a candidate with which its refit does
    not agree, and it is withheld. Running again for the same run registers nothing twice.

    Raises:
        RegistryError: MLflow refused or did not answer; nothing was rolled out.
        NothingToProveError: no row has a value for each feature that the model serves.
        RolloutError: an earlier attempt of this run made another model of this version, and serving has that loaded.
    """
    run, decision = load_run(request_path), verdict.read()
    approval = approval_of(run.home, run.request.run_id)
    is_approved = approval.approved if approval else decision.outcome is Outcome.APPROVED
    refit = refit_model if is_approved else None
    registry = MlflowRegistry(Settings.load(run.home).mlflow_base_url)
    mlflow_run_id = run.request.mlflow_run_id or registry.begin_run(run.request, run.spec)
    values = record.values(run, decision, evaluation.uri, refit=refit is not None)
    values["tags"] |= {"ct.data_warnings": warnings_of(anomalies.uri)}
    registry.log(mlflow_run_id, **values)
    with tempfile.TemporaryDirectory() as folder:
        sources = record.Sources(statistics.uri, anomalies.uri, schema.uri, evaluation.uri)
        record.write_files(run, decision, sources, Path(folder))
        registry.log_files(mlflow_run_id, Path(folder))
    judged = saved_model_path(model)
    features = signature_features(judged)
    rows = rows_to_prove_with(eval_split(examples), features, run)
    compared = None if refit is None else compare(judged, saved_model_path(refit), rows, run.config.gate)
    saved_model = saved_model_path(refit) if compared and compared.apart is None else judged
    if compared and compared.apart is not None:
        tags = {"ct.refit": "false", "ct.withheld": compared.apart}
        registry.log(mlflow_run_id, params={}, metrics={}, tags=tags)
    proof = predict_examples(saved_model, rows.head(EXAMPLE_ROWS))
    with tempfile.TemporaryDirectory() as folder:
        record.write_mlflow_model(Path(folder), saved_model, features, proof, mlflow_run_id)
        registry.log_files(mlflow_run_id, Path(folder), MODEL_ARTIFACT)
    version = registry.register(run.request.pipeline, mlflow_run_id, MODEL_ARTIFACT, description=decision.reason)
    made = _manifest(run, decision, version, saved_model, features, approval, compared)
    manifest = stage_version(ModelStore(run.home, made.name), made, saved_model, proof)
    registry.tag_version(manifest.name, manifest.version, tags_of(manifest))
    _log_verdict_page(registry, manifest)
    registry.finish_run(mlflow_run_id)
    write_atomically(Path(registration.uri) / "manifest.json", manifest.model_dump_json(indent=2))
    report(
        f"version {manifest.version} of {manifest.name} registered, {_standing(manifest)}",
        version=manifest.version,
        may_serve=manifest.may_serve,
        agreement=manifest.agreement.model_dump(mode="json") if manifest.agreement else None,
        withheld=manifest.withheld,
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
        answer = answered(manifest.approval)
        tags["ct.approval"] = f"{answer} by {manifest.approval.by}: {manifest.approval.reason}"
    if manifest.agreement is not None:
        tags["ct.refit_agreement"] = manifest.agreement.model_dump_json()
    if manifest.withheld is not None:
        tags["ct.withheld"] = manifest.withheld
    return tags


def _standing(manifest: VersionManifest) -> str:
    """Whether it may serve, in words."""
    if manifest.may_serve:
        return "approved" if manifest.approval is None else f"approved by {manifest.approval.by}"
    if manifest.withheld is not None:
        name, version, served = manifest.name, manifest.version, manifest.verdict.champion_version
        now = f"Version {served} serves on" if served else "Nothing serves yet"
        return (
            f"withheld: {manifest.withheld}. {now}. Raise the limit or set `refit: false` in pipeline.yaml, deploy it and run "
            f"`ct trigger {name} --force`; or let the candidate serve as it was judged: "
            f'`ct rollout {name} --version {version} --force --reason "..."`'
        )
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
    compared: Compared | None,
) -> VersionManifest:
    is_refit = compared is not None and compared.apart is None
    return VersionManifest(
        name=version.name,
        version=version.version,
        created_at=datetime.now(timezone.utc),
        run_id=run.request.run_id,
        mlflow_run_id=version.mlflow_run_id,
        features=features,
        label=run.config.label,
        spans=run.request.spans,
        refit=is_refit,
        verdict=decision,
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=run.config.serving.prediction_tolerance,
        spec_hash=run.request.spec_hash,
        recipe_hash=run.request.recipe_hash,
        seed=run.request.seed,
        approval=approval,
        agreement=compared.agreement if compared else None,
        withheld=compared.apart if compared else None,
        made_with=run.made_with(refit=is_refit),
    )
