"""Rollout: the registered version into the model store, and serving on it."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

import json
from datetime import datetime, timezone
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from ct.contracts import VersionManifest
from ct.registry import MlflowRegistry
from ct.rollout import ModelStore, apply, plan_rollout
from ct.settings import Settings
from ct.training.artifacts import Registration
from ct.training.facts import report
from ct.training.run import load_run


@component
def Rollout(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str], registration: InputArtifact[Registration]
) -> None:
    """Stage the version's files, let it serve, and wait until every serving worker answers with it.

    Raises:
        RolloutError: a worker did not take the version; what served before serves on.
    """
    run = load_run(request_path)
    folder = Path(registration.uri)
    manifest = VersionManifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
    store = ModelStore(run.home, manifest.name)
    desired = store.desired()
    if desired is not None and desired.version == manifest.version:
        report(f"version {manifest.version} serves already", version=manifest.version)
        return
    store.stage(folder / "saved_model", manifest, json.loads((folder / "examples.json").read_text(encoding="utf-8")))
    facts = store.facts(run.config.serving.keep_versions)
    plan = plan_rollout(manifest.name, manifest.version, reached=store.reached(), **facts)
    applied = apply(
        plan,
        store,
        MlflowRegistry(Settings.load(run.home).mlflow_base_url),
        actor=f"run {run.request.run_id}",
        reason=manifest.verdict.reason,
        clock=lambda: datetime.now(timezone.utc),
    )
    served = (
        f"{applied.workers} serving workers answer with it"
        if applied.workers
        else "serving does not run and will take it"
    )
    behind = f"; {applied.alias_problem}" if applied.alias_problem else ""
    report(
        f"version {manifest.version} of {manifest.name} is rolled out; {served}{behind}",
        version=manifest.version,
        previous=applied.entry.previous,
        workers=applied.workers,
    )
