"""A run's tasks, executed without Airflow around them. Nodes and MLflow are stand-ins."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import (
    AirflowRuntimeError,
    ErrorType,
)
from airflow.sdk.execution_time.comms import ErrorResponse

from ct.airflow.claim import ClaimSpans
from ct.airflow.finish import FinishRun
from ct.airflow.node import NodeOperator
from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, NodeResult, RunRequest
from ct.errors import RegistryError
from ct.home import Home, write_atomically
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, SpanState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ct.contracts import NodeJob

NOW = datetime(2013, 1, 1, tzinfo=timezone.utc)
NODE_IDS = ("ExampleGen", "Trainer", "Gate", "Register", "Rollout")


class Registry:
    """MLflow's stand-in: remembers, or refuses to answer."""

    down = False
    failed: list[tuple[str, str]]

    def __init__(self, url: str) -> None:
        self.url = url

    def begin_run(self, request: RunRequest, spec: DeployedSpec) -> str:
        """Begin."""
        if Registry.down:
            raise RegistryError("MLflow is down.")
        return f"m-{request.run_id}"

    def fail_run(self, mlflow_run_id: str, reason: str, *, status: str = "FAILED") -> None:
        """Fail."""
        Registry.failed.append((mlflow_run_id, reason))


class Run:
    """A home with one pipeline, and what Airflow would tell the tasks of one run."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.ledger = Ledger.open(home)
        self.folder = home.landing / "p"
        self.xcoms: dict[str, Any] = {}
        self.task_states: dict[str, str] = {}
        self.other_runs: dict[str, str] = {}

    def context(self, airflow_run: str = "r1", run_type: str = "asset_triggered", **conf: Any) -> Any:
        """What execute gets."""
        ti = SimpleNamespace(
            try_number=1,
            xcom_pull=self._xcom_pull,
            get_task_states=self._get_task_states,
            get_dagrun_state=self._dagrun_state,
        )
        dag_run = SimpleNamespace(
            dag_id="p", run_id=airflow_run, run_type=run_type, conf=conf, run_after=NOW, data_interval_end=NOW
        )
        return {"ti": ti, "dag_run": dag_run}

    def _xcom_pull(self, task_ids: str) -> Any:
        return self.xcoms.get(task_ids)

    def _get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert dag_id == "p"
        return {run_ids[0]: self.task_states}

    def _dagrun_state(self, dag_id: str, run_id: str) -> str:
        assert dag_id == "p"
        if run_id in self.other_runs:
            return self.other_runs[run_id]
        detail = {"status_code": 404}
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))

    def land(self, name: str, text: str | None = None, rows: int | None = None) -> None:
        """A span lands."""
        uri = f"/in/{name}.csv"
        arrival = Arrival(
            name=name,
            source_uri=uri,
            uri=uri,
            format="csv",
            sha256=text or name,
            size_bytes=1,
            fingerprint="1",
            rows=rows,
        )
        self.ledger.record_landing("p", arrival)

    def claim(self, airflow_run: str = "r1", run_type: str = "asset_triggered", **conf: Any) -> RunRequest:
        """Run the first task."""
        self.xcoms["claim"] = ClaimSpans(task_id="claim", pipeline="p").execute(
            self.context(airflow_run, run_type, **conf)
        )
        text = self.home.request_path(self.xcoms["claim"]["run_id"]).read_text(encoding="utf-8")
        return RunRequest.model_validate_json(text)

    def result(self, node_id: str, **values: Any) -> None:
        """What a node left behind."""
        written = NodeResult(node_id=node_id, **{"ok": True, "seconds": 1, "peak_rss_mb": 1, **values})
        folder = self.home.runs / self.xcoms["claim"]["run_id"]
        write_atomically(folder / f"{node_id}.result.json", written.model_dump_json())

    def finish(self) -> dict[str, Any]:
        """Run the last task."""
        return FinishRun(task_id="finish", pipeline="p", node_ids=NODE_IDS).execute(self.context())

    def states(self) -> dict[str, SpanState]:
        """Span -> state."""
        return {record.span.name: record.state for record in self.ledger.spans("p")}


def deploy(home: Home, spec_hash: str = "0" * 16, recipe_hash: str | None = None, **more: Any) -> None:
    """Store a spec as `ct deploy` does."""
    config = PipelineConfig.model_validate(
        {
            "name": "p",
            "description": "d",
            "owner": "o",
            "label": "y",
            "seed": 7,
            "source": {"pattern": "*.csv"},
            "window": {"time_column": "t"},
            "gate": {"threshold": 0.5},
            **more,
        }
    )
    spec = DeployedSpec(
        spec_hash=spec_hash,
        pipeline="p",
        config=config.model_dump(mode="json"),
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
        recipe_hash=recipe_hash,
    )
    write_atomically(home.deployed / "p" / "specs" / spec.spec_hash / "spec.json", spec.model_dump_json())
    write_atomically(home.deployed / "p" / "current.json", json.dumps({"spec_hash": spec.spec_hash}))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that has not begun."""
    home = Home(tmp_path).create()
    deploy(home)
    (home.landing / "p").mkdir()
    monkeypatch.setenv("CT_HOME", str(home.root))
    monkeypatch.setattr("ct.registry.MlflowRegistry", Registry)
    Registry.down, Registry.failed = False, []
    return Run(home)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[NodeJob]]:
    """Makes every node answer with this, or raise it; returns the jobs that were asked for."""

    def answer(what: Any) -> list[NodeJob]:
        jobs: list[NodeJob] = []

        class Stub:
            def __init__(self, job: NodeJob, job_path: Path, home: Home, on_line: Callable[[str], None]) -> None:
                assert job_path == home.runs / job_path.parent.name / f"{job.node_id}.job.json"
                on_line("WARNING: seen in the task's log")
                jobs.append(job)

            def execute(self) -> NodeResult:
                if isinstance(what, Exception):
                    raise what
                return NodeResult(**{"node_id": jobs[-1].node_id, "seconds": 1, "peak_rss_mb": 1, **what})

            def cancel(self) -> None:
                jobs.clear()

        monkeypatch.setattr("ct.airflow.node.NodeRun", Stub)
        return jobs

    return answer


def execute(run: Run, node_id: str = "Trainer", **more: Any) -> dict[str, Any]:
    """Run one node's task."""
    return NodeOperator(task_id=node_id, pipeline="p", **more).execute(run.context())


def approve(run: Run) -> None:
    """The claimed run ends well."""
    run.result("Gate", facts={"outcome": "approved", "reason": "good"})
    run.finish()
