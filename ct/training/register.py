"""Register: the run's whole record in MLflow, and for an approved candidate a version that is ready for rollout."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts

from ct import contracts
from ct.contracts import Feature, Outcome, VersionManifest
from ct.errors import NodeFailedError
from ct.home import write_atomically
from ct.registry import MlflowRegistry, RegisteredVersion
from ct.rollout import tree_sha256
from ct.settings import Settings
from ct.training import record
from ct.training.artifacts import Registration, Verdict, saved_model_path
from ct.training.facts import report
from ct.training.findings import Validation
from ct.training.run import Run, load_run

MODEL_ARTIFACT = "model"
EXAMPLE_ROWS = 32
"""Rows whose offline predictions serving must reproduce before it serves the version."""
AGREEMENT_ROWS = 4096
TAG_CHARACTERS = 5000
"""The longest tag that every store of MLflow takes."""
REFIT_AUC_BAND = 0.02
"""A refit has seen these rows, so its AUC on them should be no worse than its twin's; the band is for chance."""


@dataclass(frozen=True)
class Rows:
    """Raw rows of the split that the candidate was judged on."""

    features: Mapping[str, np.ndarray]
    """Feature -> array of shape (rows,)."""
    labels: np.ndarray
    """float32, (rows,)."""

    def head(self, count: int) -> "Rows":
        """The first rows."""
        return Rows({name: values[:count] for name, values in self.features.items()}, self.labels[:count])


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
    """Log the run; register the model that will serve, if the candidate was approved.

    A refused candidate is logged like any other and gets no version; `registration` is then empty. Running again for the
    same run registers nothing twice.

    Raises:
        RegistryError: MLflow refused or did not answer; nothing was rolled out.
        NodeFailedError: the refitted model does not agree with the candidate that was judged.
    """
    run, decision = load_run(request_path), verdict.read()
    registry = MlflowRegistry(Settings.load(run.home).mlflow_base_url)
    mlflow_run_id = run.request.mlflow_run_id or registry.begin_run(run.request, run.spec)
    serving = refit_model or model
    saved_model = saved_model_path(serving)
    rows = read_rows(examples, run.config.label)
    values = record.values(run, decision, evaluation.uri, refit=refit_model is not None)
    values["tags"] |= {"ct.data_warnings": warnings_of(anomalies.uri)}
    registry.log(mlflow_run_id, **values)
    with tempfile.TemporaryDirectory() as folder:
        sources = record.Sources(statistics.uri, anomalies.uri, schema.uri, evaluation.uri)
        record.write_files(run, decision, sources, Path(folder))
        registry.log_files(mlflow_run_id, Path(folder))
    if decision.outcome is Outcome.REFUSED:
        registry.finish_run(mlflow_run_id)
        report(f"run logged in MLflow; no version: {decision.reason}", version=None, mlflow_run_id=mlflow_run_id)
        return
    if refit_model is not None:
        _require_agreement(saved_model_path(model), saved_model, rows.head(AGREEMENT_ROWS))
    proof = predict_examples(saved_model, rows.head(EXAMPLE_ROWS))
    with tempfile.TemporaryDirectory() as folder:
        record.write_mlflow_model(Path(folder), saved_model, signature_features(saved_model), proof, mlflow_run_id)
        registry.log_files(mlflow_run_id, Path(folder), MODEL_ARTIFACT)
    version = registry.register(run.request.pipeline, mlflow_run_id, MODEL_ARTIFACT, description=decision.reason)
    registry.finish_run(mlflow_run_id)
    manifest = _manifest(run, decision, version, saved_model, refit=refit_model is not None)
    _write_registration(Path(registration.uri), manifest, saved_model, proof)
    report(
        f"version {version.version} of {version.name} registered", version=version.version, mlflow_run_id=mlflow_run_id
    )


def warnings_of(anomalies_uri: str) -> str:
    """What the validator warned of, a finding after the other; `findings.json`, which is logged too, has all of it."""
    text = (Path(anomalies_uri) / "findings.json").read_text(encoding="utf-8")
    warnings = Validation.model_validate_json(text).warnings
    return "; ".join(finding.line for finding in warnings)[:TAG_CHARACTERS]


def read_rows(examples: standard_artifacts.Examples, label: str) -> Rows:
    """The rows of the `eval` split, at most AGREEMENT_ROWS, as the arrays that the signature takes."""
    pattern = artifact_utils.get_split_uri([examples], "eval") + "/*"
    paths = sorted(tf.io.gfile.glob(pattern))
    records = list(tf.data.TFRecordDataset(paths, compression_type="GZIP").take(AGREEMENT_ROWS).as_numpy_iterator())
    columns: dict[str, list[Any]] = {}
    for serialized in records:
        for name, feature in tf.train.Example.FromString(serialized).features.feature.items():
            kind = feature.WhichOneof("kind")
            columns.setdefault(name, []).append(getattr(feature, kind).value[0] if kind else None)
    kinds = {bytes: object, int: np.int64, float: np.float32}
    arrays = {name: np.array(values, dtype=kinds[type(values[0])]) for name, values in columns.items()}
    return Rows({name: array for name, array in arrays.items() if name != label}, arrays[label].astype(np.float32))


def predict(saved_model: Path, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Probabilities of a SavedModel's `serving_default`, float32 (rows,)."""
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures["serving_default"]
    wanted = signature.structured_input_signature[1]
    answer: np.ndarray = signature(**{name: tf.constant(features[name], spec.dtype) for name, spec in wanted.items()})[
        "probability"
    ].numpy()
    return answer


def signature_features(saved_model: Path) -> tuple[Feature, ...]:
    """The raw features that `serving_default` takes."""
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    return tuple(
        Feature(name=name, dtype=spec.dtype.name)
        for name, spec in sorted(signature.structured_input_signature[1].items())
    )


def predict_examples(saved_model: Path, rows: Rows) -> dict[str, Any]:
    """Rows as JSON values with what the model says of them: `{"instances": [...], "predictions": [...]}`."""
    names = [feature.name for feature in signature_features(saved_model)]
    columns = {name: [_plain(value) for value in rows.features[name]] for name in names}
    instances = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {"instances": instances, "predictions": [float(value) for value in predict(saved_model, rows.features)]}


def _plain(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value.item()


def _require_agreement(candidate: Path, refit: Path, rows: Rows) -> None:
    """A refit carries its twin's verdict, so it must not be another model."""
    scores, twin = predict(refit, rows.features), predict(candidate, rows.features)
    if not np.isfinite(scores).all():
        raise NodeFailedError("The refitted model predicts values that are not finite. No version was registered.")
    if len(set(rows.labels)) < 2:  # noqa: PLR2004  an AUC needs both classes
        return
    found, expected = roc_auc_score(rows.labels, scores), roc_auc_score(rows.labels, twin)
    if found < expected - REFIT_AUC_BAND:
        raise NodeFailedError(
            f"The refitted model's AUC on rows it has seen is {found:.4f}, its twin's {expected:.4f}: more than "
            f"{REFIT_AUC_BAND} below. No version was registered; what served before serves on.",
            refit=found,
            candidate=expected,
        )


def _manifest(
    run: Run, decision: contracts.Verdict, version: RegisteredVersion, saved_model: Path, *, refit: bool
) -> VersionManifest:
    return VersionManifest(
        name=version.name,
        version=version.version,
        created_at=datetime.now(timezone.utc),
        run_id=run.request.run_id,
        mlflow_run_id=version.mlflow_run_id,
        features=signature_features(saved_model),
        label=run.config.label,
        spans=run.request.spans,
        refit=refit,
        verdict=decision,
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=run.config.serving.prediction_tolerance,
    )


def _write_registration(folder: Path, manifest: VersionManifest, saved_model: Path, proof: Mapping[str, Any]) -> None:
    shutil.copytree(saved_model, folder / "saved_model")
    write_atomically(folder / "examples.json", json.dumps(proof))
    write_atomically(folder / "manifest.json", manifest.model_dump_json(indent=2))
