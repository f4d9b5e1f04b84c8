"""Prove: the registered version in the very service that would serve it, beside the champion, before it may."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from ct import contracts
from ct.contracts import VersionManifest
from ct.errors import ProofFailedError
from ct.home import write_atomically
from ct.proving import prove
from ct.registry import MlflowRegistry
from ct.rollout import ModelStore
from ct.settings import PREFIX, Settings
from ct.training.artifacts import Proof, Registration
from ct.training.evaluation import eval_split
from ct.training.facts import report
from ct.training.register import VERDICT_PAGE
from ct.training.rows import predict_examples, sample_rows
from ct.training.run import Run, load_run
from ct.verdict_page import render_version
from ct.worker.environment import training_environment

PROOF_FILE, SERVICE_LOG = "proof.json", "proof-service.log"


@component
def Prove(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str],
    registration: InputArtifact[Registration],
    examples: InputArtifact[standard_artifacts.Examples],
    proof: OutputArtifact[Proof],
) -> None:
    """Start the service on the version's own files, replay the rows it was judged on, and time it beside the champion.

    The proof is on record in any case: in the version's folder, in the run's folder beside the service's log, and in MLflow.

    Raises:
        ProofFailedError: the version must not serve; what served before serves on.
        ServiceNotStartedError: the service did not start, which says nothing about the version.
        RegistryError: MLflow refused or did not answer; nothing was rolled out.
    """
    run = load_run(request_path)
    text = (Path(registration.uri) / "manifest.json").read_text(encoding="utf-8")
    manifest = VersionManifest.model_validate_json(text)
    saved_model = ModelStore(run.home, manifest.name).version_path(manifest.version) / "saved_model"

    def rows() -> dict[str, Any]:
        sample = sample_rows(eval_split(examples), manifest.features, manifest.label, run.request.seed)
        return predict_examples(saved_model, sample)

    made = _made(run, manifest, rows)
    folder = run.home.request_path(run.request.run_id).parent
    for place in (folder, Path(proof.uri)):
        write_atomically(place / PROOF_FILE, made.model_dump_json(indent=2))
    if manifest.mlflow_run_id is not None:
        _log(MlflowRegistry(Settings.load(run.home).mlflow_base_url), manifest.mlflow_run_id, manifest, made)
    if not made.passed:
        raise _failed(made, folder / SERVICE_LOG)
    report(
        f"version {made.version} is proven: {made.reason}",
        version=made.version,
        champion=made.champion_version,
        **made.measured,
    )


def _made(run: Run, manifest: VersionManifest, rows: Callable[[], dict[str, Any]]) -> contracts.Proof:
    """Prove it in the serving plane; `rows` are predicted offline here while the service starts there."""
    ours = {name for name in training_environment(run.home, Settings.load(run.home)) if not name.startswith(PREFIX)}
    return prove(
        run.home,
        manifest.name,
        manifest.version,
        run.config.gate.guards,
        allow_incompatible=run.config.serving.allow_incompatible,
        environment={name: value for name, value in os.environ.items() if name not in ours},
        log=run.home.request_path(run.request.run_id).parent / SERVICE_LOG,
        rows=rows,
    )


def _failed(proof: contracts.Proof, log: Path) -> ProofFailedError:
    serves = f"version {proof.champion_version} serves on" if proof.champion_version else "nothing serves yet"
    return ProofFailedError(
        f'Version {proof.version} of "{proof.name}" was not rolled out, {serves}: {proof.reason}. See '
        f"`ct why {proof.name} {proof.version}` and {log}.",
        name=proof.name,
        version=proof.version,
        champion=proof.champion_version,
        failed=[
            check.name for check in proof.checks if check.blocking and check.outcome is not contracts.CheckOutcome.PASS
        ],
        **proof.measured,
    )


def _log(registry: MlflowRegistry, mlflow_run_id: str, manifest: VersionManifest, proof: contracts.Proof) -> None:
    """The proof in MLflow: numbers, tags, the file, and the verdict's page with the proof on it."""
    metrics = {f"proof.{name}": value for name, value in proof.measured.items()}
    tags = {"ct.proof": "passed" if proof.passed else "failed", "ct.proof_reason": proof.reason}
    registry.log(mlflow_run_id, params={}, metrics=metrics, tags=tags)
    registry.tag_version(proof.name, proof.version, tags)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PROOF_FILE).write_text(proof.model_dump_json(indent=2), encoding="utf-8")
        (Path(folder) / VERDICT_PAGE).write_text(render_version(manifest, proof), encoding="utf-8")
        registry.log_files(mlflow_run_id, Path(folder))
