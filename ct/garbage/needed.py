"""What must stay of one pipeline, and why: what serves or may serve again, what runs, and what rebuilds a kept version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ct.config import PipelineConfig
from ct.contracts import RunRequest
from ct.deploy import deployed_pipelines, deployed_spec, spec_dir_of
from ct.retention_config import RetentionConfig
from ct.rollout.history import served_stack
from ct.triggers.records import RunStatus, SpanState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from ct.contracts import VersionManifest
    from ct.home import Home
    from ct.rollout import ModelStore
    from ct.triggers.ledger import Ledger
    from ct.triggers.records import RunRecord, SpanRecord

GONE = (SpanState.SUPERSEDED,)


@dataclass(frozen=True)
class Needed:
    """What stays of one pipeline."""

    versions: dict[int, str]
    """Version -> why it stays."""
    runs: frozenset[str]
    """Runs whose folders and TFX artifacts stay."""
    specs: frozenset[str]
    encoded: frozenset[str]
    """Hashes of spans that the next run reads, or one that goes on."""
    fetched: frozenset[str]
    """The same, and those that rebuild kept versions."""
    schemas: frozenset[Path]
    """The schema.pbtxt by which the next run, or one that goes on, encodes."""
    data_is_known: bool
    """False while a run has claimed spans and not yet written its request: then no data goes."""


def retention_of(home: Home, pipeline: str) -> RetentionConfig:
    """What the deployed pipeline.yaml says; the defaults for a model whose pipeline is not deployed."""
    if pipeline not in deployed_pipelines(home):
        return RetentionConfig()
    return PipelineConfig.model_validate(deployed_spec(home, pipeline).config).retention


def needed_versions(store: ModelStore, retention: RetentionConfig, running: frozenset[str]) -> dict[int, str]:
    """The versions whose files must stay, and why; of several reasons the weightiest."""
    desired, versions = store.desired(), store.versions()
    reasons: dict[int, str] = {}
    for version in versions[-retention.versions :]:
        reasons[version] = f"among the newest {retention.versions}"
    for version in versions:
        if store.manifest(version).run_id in running:
            reasons[version] = "its run goes on"
    for version in served_stack(store.history())[-retention.versions :]:
        reasons[version] = "can be rolled back to"
    for worker in store.live_workers():
        reasons |= dict.fromkeys(worker.loaded, "loaded by a serving worker")
    journal = store.journal()
    if journal is not None:
        ends = [state for state in (journal.before, journal.after) if state is not None]
        reasons |= {version: "a change is under way" for state in ends for version in state.warm}
    reasons |= dict.fromkeys(store.quarantined(), "quarantined")
    reasons |= dict.fromkeys(store.pinned(), "pinned")
    if desired is not None:
        reasons |= dict.fromkeys(desired.warm, "warm")
        reasons |= {desired.previous: "served before"} if desired.previous is not None else {}
        reasons |= {desired.canary.version: "canary"} if desired.canary else {}
        reasons |= {desired.shadow: "shadow"} if desired.shadow is not None else {}
        reasons[desired.version] = "serves"
    return {version: reason for version, reason in reasons.items() if version in versions}


def needed_of(home: Home, store: ModelStore, ledger: Ledger, *, now: datetime) -> Needed:
    """Everything that must stay of the pipeline of this model."""
    pipeline = store.name
    retention = retention_of(home, pipeline)
    runs = ledger.runs(pipeline, limit=None)
    running = frozenset(run.run_id for run in runs if run.status is RunStatus.RUNNING)
    versions = needed_versions(store, retention, running)
    manifests = [store.manifest(version) for version in versions]
    recent = _recent(runs, now - timedelta(days=retention.runs_days))
    kept_runs = running | recent | {manifest.run_id for manifest in manifests}
    requests = {run_id: _request(home, run_id) for run_id in kept_runs}
    going_on = [request for run_id in running if (request := requests[run_id]) is not None]
    window, unsettled = _window(home, ledger, pipeline)
    encoded = window | {span.sha256 for request in going_on for span in request.spans}
    specs = _specs(home, pipeline, manifests, [request for request in requests.values() if request is not None])
    schema_specs = {*_current(home, pipeline), *(request.spec_hash for request in going_on)}
    return Needed(
        versions=versions,
        runs=kept_runs,
        specs=specs,
        encoded=encoded,
        fetched=encoded | unsettled | {span.sha256 for manifest in manifests for span in manifest.spans},
        schemas=frozenset(
            spec_dir_of(home, pipeline, spec) / "code" / pipeline / "schema.pbtxt" for spec in schema_specs
        ),
        data_is_known=len(going_on) == len(running),
    )


def _recent(runs: Sequence[RunRecord], since: datetime) -> frozenset[str]:
    return frozenset(run.run_id for run in runs if (run.finished_at or run.started_at) >= since)


def _request(home: Home, run_id: str) -> RunRequest | None:
    try:
        return RunRequest.model_validate_json(home.request_path(run_id).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _window(home: Home, ledger: Ledger, pipeline: str) -> tuple[frozenset[str], frozenset[str]]:
    """Hashes of the spans that the next run's window may have, and of those that it may have once somebody asks for them."""
    records = [record for record in ledger.spans(pipeline) if record.state not in GONE]
    trainable = [record for record in records if record.state is not SpanState.REFUSED]
    if pipeline in deployed_pipelines(home):
        config = PipelineConfig.model_validate(deployed_spec(home, pipeline).config)
        trainable = trainable if config.window.max_spans is None else trainable[-config.window.max_spans :]
    unsettled = [record for record in records if record.state is not SpanState.TRAINED]
    return _hashes(trainable), _hashes(unsettled)


def _hashes(records: Sequence[SpanRecord]) -> frozenset[str]:
    return frozenset(record.span.sha256 for record in records)


def _specs(
    home: Home, pipeline: str, manifests: Sequence[VersionManifest], requests: Sequence[RunRequest]
) -> frozenset[str]:
    made_versions = {manifest.spec_hash for manifest in manifests if manifest.spec_hash}
    return frozenset({*_current(home, pipeline), *made_versions, *(request.spec_hash for request in requests)})


def _current(home: Home, pipeline: str) -> tuple[str, ...]:
    return (deployed_spec(home, pipeline).spec_hash,) if pipeline in deployed_pipelines(home) else ()
