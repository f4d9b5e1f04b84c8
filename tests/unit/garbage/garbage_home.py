"""A home with a past: runs, versions, artifacts, encoded and fetched spans, specs; months of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from ct.config import parse_pipeline_config
from ct.contracts import (
    Change,
    DeployedSpec,
    DesiredState,
    HistoryEntry,
    RunRequest,
    Span,
    TriggerKind,
)
from ct.home import Home, write_atomically
from ct.rollout import ModelStore
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, RunStatus
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from pathlib import Path

NAME = "trips"
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
SCHEMA = b"feature { name: 'size' }"
CONFIG = {
    "name": NAME,
    "description": "d",
    "owner": "o",
    "label": "late",
    "window": {"time_column": "time", "max_spans": 2},
    "gate": {"threshold": 0.5},
    "retention": {"versions": 1, "runs_days": 10},
}


@dataclass
class Clock:
    """Moved by hand."""

    now: datetime = NOW - timedelta(days=300)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Past:
    """A home that was used for months. Every `month` lands a span, runs, and registers a version."""

    home: Home
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.home.create()
        self.ledger = Ledger.open(self.home, self.clock)
        self.store = ModelStore(self.home, NAME)
        self.executions: dict[str, list[int]] = {}
        self.model = self.home.root / "model"
        self.model.mkdir()
        (self.model / "saved_model.pb").write_bytes(b"m" * 1000)

    def deploy(self, spec_hash: str) -> None:
        """Store a spec, and make it the current one."""
        folder = self.home.deployed / NAME / "specs" / spec_hash
        (folder / "code" / NAME).mkdir(parents=True)
        (folder / "code" / NAME / "schema.pbtxt").write_bytes(SCHEMA)
        spec = DeployedSpec(
            spec_hash=spec_hash,
            pipeline=NAME,
            config=parse_pipeline_config(CONFIG, where="test").model_dump(mode="json"),
            nodes=(),
            readme="",
            deployed_at=self.clock.now,
            code_commit=None,
            requirement_hashes={},
        )
        write_atomically(folder / "spec.json", spec.model_dump_json())
        write_atomically(self.home.deployed / NAME / "current.json", f'{{"spec_hash": "{spec_hash}"}}')

    def land(self, month: int) -> str:
        """A span arrives and is encoded and fetched; its hash."""
        sha256 = hashlib.sha256(str(month).encode()).hexdigest()
        copy = self.home.fetched(NAME) / f"{sha256}.csv"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"f" * 100)
        arrival = Arrival(
            name=f"2026-{month:02}",
            source_uri=f"s3://b/{month}",
            uri=str(copy),
            format="csv",
            sha256=sha256,
            size_bytes=100,
            fingerprint="1",
            rows=5,
        )
        self.ledger.record_landing(NAME, arrival)
        part = self.home.artifacts(NAME) / "spans" / f"{sha256}-{hashlib.sha256(SCHEMA).hexdigest()[:12]}-all"
        part.mkdir(parents=True)
        (part / "ready.json").write_bytes(b"e" * 10)
        return sha256

    def begin(self, month: int, spec_hash: str) -> RunRequest:
        """A run claims what waits and leaves artifacts."""
        claim = self.ledger.claim(
            Ask(
                pipeline=NAME,
                run_id=f"run-{month}",
                trigger=TriggerKind.MANUAL,
                airflow_dag_id=NAME,
                airflow_run_id=f"a-{month}",
                asked_at=self.clock.now,
                max_spans=2,
            )
        )
        assert claim is not None
        request = RunRequest(
            run_id=claim.run_id,
            pipeline=NAME,
            spec_hash=spec_hash,
            trigger=claim.trigger,
            requested_at=claim.requested_at,
            spans=claim.window,
            new_spans=claim.new_spans,
            seed=1,
            airflow_dag_id=NAME,
            airflow_run_id=f"a-{month}",
            mlflow_run_id=None,
        )
        write_atomically(self.home.request_path(request.run_id), request.model_dump_json())
        self.executions[request.run_id] = [month]
        for folder in (f"Trainer/model/{month}", f"Trainer/.system/executor_execution/{month}"):
            path = self.home.artifacts(NAME) / folder
            path.mkdir(parents=True)
            (path / "file").write_bytes(b"a" * 50)
        return request

    def register(self, version: int, request: RunRequest) -> None:
        """The run's model becomes a version."""
        made = manifest_of(NAME, version, self.model, created_at=self.clock.now).model_copy(
            update={"run_id": request.run_id, "spans": request.spans, "spec_hash": request.spec_hash, "seed": 1}
        )
        self.store.stage(self.model, made, {"instances": [], "predictions": []})

    def month(self, month: int, spec_hash: str = "spec0") -> None:
        """A whole month that ends with version `month`."""
        self.land(month)
        request = self.begin(month, spec_hash)
        self.register(month, request)
        self.ledger.finish_run(request.run_id, RunStatus.APPROVED, version=month)
        self.clock.now += timedelta(days=30)

    def serve(self, *versions: int, warm: tuple[int, ...] | None = None, shadow: int | None = None) -> None:
        """Versions served one after the other, the last one does now."""
        for generation, version in enumerate(versions, start=1):
            previous = versions[generation - 2] if generation > 1 else None
            entry = HistoryEntry(
                generation=generation,
                change=Change.ROLLOUT,
                version=version,
                previous=previous,
                at=self.clock.now,
                actor="a",
                reason="r",
            )
            self.store.remember(entry)
        state = DesiredState(
            name=NAME,
            generation=len(versions),
            version=versions[-1],
            previous=None,
            warm=warm or versions[-1:],
            shadow=shadow,
        )
        self.store.desire(state)

    def span(self, month: int) -> Span:
        """The span of a month, as the ledger has it."""
        return next(record.span for record in self.ledger.spans(NAME) if record.span.name == f"2026-{month:02}")


def relative(home: Home, path: Path) -> str:
    """For assertions that people can read."""
    return path.relative_to(home.root).as_posix()
