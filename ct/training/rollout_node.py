"""Rollout: lets the registered version serve."""
# No `from __future__ import annotations`: TFX's decorator reads the annotations as types.

from datetime import datetime, timezone
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from ct.contracts import VersionManifest
from ct.registry import MlflowRegistry
from ct.rollout import ModelStore, admit, apply, plan_rollout, resume
from ct.settings import Settings
from ct.training.artifacts import Registration
from ct.training.facts import report
from ct.training.run import load_run


@component
def Rollout(  # noqa: N802  TFX names components like classes
    request_path: Parameter[str], registration: InputArtifact[Registration]
) -> None:
    """Let the version serve, and wait until every serving worker answers with it. Running again finishes what was cut short.

    Raises:
        RolloutError: a worker did not take the version, or it must not serve: the gate did not approve it, it is in quarantine,
            or it takes features that clients do not send. What served before serves on.
    """
    run = load_run(request_path)
    text = (Path(registration.uri) / "manifest.json").read_text(encoding="utf-8")
    manifest = VersionManifest.model_validate_json(text)
    store = ModelStore(run.home, manifest.name)
    registry = MlflowRegistry(Settings.load(run.home).mlflow_base_url)
    resumed = resume(store, registry, clock=_now)
    desired = store.desired()
    if desired is not None and desired.version == manifest.version:
        finished = f" ({resumed.message})" if resumed and resumed.message else ""
        report(f"version {manifest.version} serves already{finished}", version=manifest.version)
        return
    facts = store.facts(run.config.serving.keep_versions)
    plan = plan_rollout(manifest.name, manifest.version, reached=store.reached(), **facts)
    admit(plan, store, allow_incompatible=run.config.serving.allow_incompatible)
    applied = apply(
        plan,
        store,
        registry,
        actor=f"run {run.request.run_id}",
        reason=manifest.approval.reason if manifest.approval else manifest.verdict.reason,
        clock=_now,
    )
    served = (
        f"{applied.workers} serving workers answer with it"
        if applied.workers
        else "serving does not run and will take it"
    )
    behind = f"; {applied.registry_problem}" if applied.registry_problem else ""
    report(
        f"version {manifest.version} of {manifest.name} is rolled out; {served}{behind}",
        version=manifest.version,
        previous=applied.entry.previous,
        workers=applied.workers,
    )


def _now() -> datetime:
    return datetime.now(timezone.utc)
