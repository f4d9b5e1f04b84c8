"""The tasks of a run, executed without Airflow around them. Nodes and MLflow are stand-ins."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRuntimeError,
    AirflowSkipException,
    ErrorType,
)
from airflow.sdk.execution_time.comms import ErrorResponse

from ct.airflow.claim import ClaimSpans
from ct.airflow.finish import FinishRun
from ct.airflow.node import NodeOperator
from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, NodeResult, RunRequest, TriggerKind
from ct.errors import NodeFailedError, PlaneMissingError, RegistryError
from ct.home import Home, write_atomically
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, RunStatus, SkipCause, SpanState

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


def deploy(home: Home, spec_hash: str = "0" * 16, **more: Any) -> None:
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


def test_claim_writes_the_request_of_the_run(run: Run) -> None:
    """Everything that is decided before the first node is in request.json; the run id names pipeline and time."""
    run.land("jan")
    request = run.claim()
    assert request.run_id.startswith("p-20")
    assert request.trigger is TriggerKind.DATA
    assert (request.seed, request.spec_hash, request.airflow_run_id) == (7, "0" * 16, "r1")
    assert request.mlflow_run_id == f"m-{request.run_id}"
    assert [span.name for span in request.spans] == ["jan"]


def test_claim_goes_on_without_mlflow(run: Run) -> None:
    """Register begins the MLflow run later; training must not wait for a record keeper."""
    Registry.down = True
    run.land("jan")
    assert run.claim().mlflow_run_id is None


def test_a_retried_claim_leaves_the_request_as_it_was(run: Run) -> None:
    """Nodes may have read it already."""
    run.land("jan")
    first = run.claim()
    run.land("feb")
    assert run.claim() == first


def test_a_claim_that_crashed_before_its_request_was_written_begins_no_second_mlflow_run(run: Run) -> None:
    """The ledger remembers the first."""
    run.land("jan")
    first = run.claim()
    run.home.request_path(first.run_id).unlink()
    Registry.down = True
    assert run.claim().mlflow_run_id == first.mlflow_run_id


def test_nothing_to_claim_skips_with_the_reason(run: Run) -> None:
    """The reason is what Airflow's log shows."""
    with pytest.raises(AirflowSkipException, match="no span has landed yet"):
        run.claim()


@pytest.mark.parametrize(
    ("run_type", "kind"),
    [
        ("manual", TriggerKind.MANUAL),
        ("scheduled", TriggerKind.SCHEDULE),
        ("asset_triggered", TriggerKind.DATA),
        ("backfill", TriggerKind.BACKFILL),
    ],
)
def test_the_request_says_what_asked_for_the_run(run: Run, run_type: str, kind: TriggerKind) -> None:
    """Airflow's run type, in ct's words; the backfill is of a date before any span was seen, so it is skipped."""
    run.land("jan")
    if kind is TriggerKind.BACKFILL:
        with pytest.raises(AirflowSkipException):
            run.claim(run_type=run_type)
        found = run.ledger.runs("p")[0].trigger
    else:
        found = run.claim(run_type=run_type).trigger
    assert found is kind


def test_a_forced_run_retrains_on_the_current_window(run: Run) -> None:
    """With nothing new at all."""
    run.land("jan")
    run.claim()
    run.result("Gate", facts={"outcome": "approved", "reason": "good"})
    run.finish()
    with pytest.raises(AirflowSkipException, match="nothing has landed"):
        run.claim("r2", "manual")
    forced = run.claim("r3", "manual", force=True)
    assert [span.name for span in forced.spans] == ["jan"]
    assert forced.new_spans == ()


@pytest.mark.parametrize("state", ["failed", "success", None])
def test_claim_closes_runs_that_ended_unnoticed(run: Run, state: str | None) -> None:
    """The scheduler was killed, or the run deleted: its spans go to the next run instead of being held for ever."""
    run.land("jan")
    lost = run.claim("r1")
    if state:
        run.other_runs["r1"] = state
    assert run.claim("r2").new_spans == ("jan",)
    closed = run.ledger.run(lost.run_id)
    assert closed is not None
    assert closed.status is RunStatus.FAILED


def test_claim_leaves_a_run_that_goes_on_alone(run: Run) -> None:
    """A backfill may run beside it."""
    run.land("jan")
    run.claim("r1")
    run.other_runs["r1"] = "running"
    with pytest.raises(AirflowSkipException):
        run.claim("r2")


def test_a_node_is_run_with_the_job_of_its_run(run: Run, node: Callable[[Any], list[NodeJob]]) -> None:
    """Its facts are the task's XCom."""
    jobs = node({"ok": True, "facts": {"rows": 3}})
    run.land("jan")
    request = run.claim()
    assert execute(run) == {"rows": 3}
    (job,) = jobs
    assert (job.node_id, job.attempt) == ("Trainer", 1)
    assert job.spec_dir.endswith(f"deployed/p/specs/{'0' * 16}")
    assert job.request_path == str(run.home.request_path(request.run_id))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ok": False, "retryable": True, "message": "flaky"}, AirflowException),
        ({"ok": False, "retryable": False, "message": "bad data"}, AirflowFailException),
        (NodeFailedError("killed"), AirflowException),
        (PlaneMissingError("no plane"), AirflowFailException),
    ],
)
def test_whether_a_failure_is_tried_again_is_the_nodes_to_say(
    run: Run, node: Callable[[Any], list[NodeJob]], answer: Any, expected: type[Exception]
) -> None:
    """Bad data fails at once; a crash is tried again."""
    node(answer)
    run.land("jan")
    run.claim()
    with pytest.raises(expected) as raised:
        execute(run)
    assert type(raised.value) is expected


@pytest.mark.parametrize("verdict", [{"outcome": "refused", "reason": "worse"}, None])
def test_a_node_after_approval_is_skipped_without_it(
    run: Run, node: Callable[[Any], list[NodeJob]], verdict: dict[str, str] | None
) -> None:
    """Nothing that the gate did not approve is refitted or rolled out."""
    jobs = node({"ok": True})
    run.land("jan")
    run.claim()
    run.xcoms["Gate"] = verdict
    with pytest.raises(AirflowSkipException, match="worse" if verdict else "has not judged"):
        execute(run, "Rollout", after_approval=True)
    assert jobs == []


def test_killing_the_task_ends_the_node(run: Run, node: Callable[[Any], list[NodeJob]]) -> None:
    """Also when the task has not come to its node yet."""
    jobs = node({"ok": True})
    run.land("jan")
    run.claim()
    task = NodeOperator(task_id="Trainer", pipeline="p")
    task.on_kill()
    task.execute(run.context())
    task.on_kill()
    assert jobs == []


def test_a_cleared_node_reopens_a_run_that_had_failed(run: Run, node: Callable[[Any], list[NodeJob]]) -> None:
    """Its spans are held again while it runs."""
    node({"ok": True})
    run.land("jan")
    request = run.claim()
    run.task_states = {"Trainer": "failed"}
    with pytest.raises(AirflowFailException):
        run.finish()
    assert run.states() == {"jan": SpanState.WAITING}
    execute(run)
    assert run.states() == {"jan": SpanState.CLAIMED}
    reopened = run.ledger.run(request.run_id)
    assert reopened is not None
    assert reopened.status is RunStatus.RUNNING


def test_finish_records_the_verdict_and_the_version(run: Run) -> None:
    """The ledger is what `ct runs` shows."""
    run.land("jan")
    run.claim()
    run.result("Gate", facts={"outcome": "approved", "reason": "better"})
    run.result("Register", facts={"version": 4})
    assert run.finish() == {"status": "approved", "message": "better", "version": 4}
    assert run.states() == {"jan": SpanState.TRAINED}


def test_finish_fails_the_mlflow_run_of_a_failed_run(run: Run) -> None:
    """With the reason that the node gave."""
    run.land("jan")
    request = run.claim()
    run.result("Trainer", ok=False, message="loss is nan")
    run.task_states = {"Trainer": "failed", "Gate": "upstream_failed"}
    with pytest.raises(AirflowFailException, match="loss is nan"):
        run.finish()
    assert Registry.failed == [(request.mlflow_run_id, "loss is nan")]


def test_finish_refuses_the_span_that_a_node_refused(run: Run) -> None:
    """The run is a skipped one, no failure; the other span of the burst waits for the next. Finishing again is safe."""
    run.land("bad")
    run.land("good")
    run.claim()
    facts = {"refused": {"bad": "no rows"}}
    run.result("ExampleGen", ok=False, message="refused", error_type="SpanRefusedError", facts=facts)
    run.task_states = {"ExampleGen": "skipped"}
    assert run.finish()["status"] == "skipped"
    assert run.states() == {"bad": SpanState.REFUSED, "good": SpanState.WAITING}
    record = run.ledger.runs("p")[0]
    assert (record.status, record.cause, record.message) == (RunStatus.SKIPPED, SkipCause.UNREADABLE_SPAN, "refused")
    assert run.finish()["status"] == "skipped"


def test_finish_has_nothing_to_do_for_a_skipped_run(run: Run) -> None:
    """It claimed nothing."""
    with pytest.raises(AirflowSkipException):
        run.claim()
    with pytest.raises(AirflowSkipException):
        run.finish()


def approve(run: Run) -> None:
    """The claimed run ends well."""
    run.result("Gate", facts={"outcome": "approved", "reason": "good"})
    run.finish()


def test_a_claim_looks_at_the_source_first(run: Run) -> None:
    """A pipeline without a watcher, or a message that announced data: what is there now is what the run gets."""
    deploy(run.home, trigger={"on_data": False, "schedule": "0 9 * * *", "settle_s": 0})
    (run.folder / "jan.csv").write_text("a\n1\n")
    (run.folder / "half.csv").write_text("a\n1")
    request = run.claim(run_type="scheduled")
    assert request.new_spans == ("jan",)
    assert request.spans[0].uri == str(run.folder / "jan.csv")
    assert [event.name for event in run.ledger.unsettled("p")] == ["half"]


def test_a_claim_waits_for_what_is_still_settling(run: Run) -> None:
    """Once, for the settling time: no watcher would have seen the file earlier."""
    deploy(run.home, trigger={"settle_s": 0.05})
    (run.folder / "jan.csv").write_text("a\n1\n")
    assert run.claim(run_type="manual").new_spans == ("jan",)


def test_a_claim_does_not_wait_for_files_it_knows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger has them; every run would lose the settling time."""
    deploy(run.home, trigger={"settle_s": 0.05})
    (run.folder / "jan.csv").write_text("a\n1\n")
    run.claim(run_type="manual")
    approve(run)
    monkeypatch.setattr("ct.airflow.claim.time.sleep", lambda s: pytest.fail(f"waited {s} s"))
    with pytest.raises(AirflowSkipException):
        run.claim("r2", "manual")


def test_a_backfill_does_not_look(run: Run) -> None:
    """It is about what had been seen by its date."""
    deploy(run.home, trigger={"settle_s": 0})
    (run.folder / "jan.csv").write_text("a\n1\n")
    with pytest.raises(AirflowSkipException):
        run.claim(run_type="backfill")
    assert run.ledger.events("p") == ()


def test_a_source_that_is_away_is_written_down_and_the_run_goes_on(run: Run) -> None:
    """With what the ledger has: its bytes may be there still."""
    run.land("jan")
    run.folder.rmdir()
    assert run.claim().new_spans == ("jan",)
    assert "does not exist" in run.ledger.unsettled("p")[0].message


@pytest.mark.parametrize("run_type", ["asset_triggered", "scheduled"])
def test_data_and_schedule_wait_for_enough_rows(run: Run, run_type: str) -> None:
    """The run is skipped with the count as its reason, and the span waits on."""
    deploy(run.home, trigger={"min_new_rows": 100})
    run.land("jan", rows=99)
    with pytest.raises(AirflowSkipException, match="99 of 100 new rows"):
        run.claim(run_type=run_type)
    assert run.ledger.runs("p")[0].cause is SkipCause.TOO_FEW_ROWS
    assert run.states() == {"jan": SpanState.WAITING}


@pytest.mark.parametrize("more", [{}, {"force": True}])
def test_a_person_does_not_wait(run: Run, more: dict[str, bool]) -> None:
    """A manual run takes what is there; so does a forced one."""
    deploy(run.home, trigger={"min_new_rows": 100, "cooldown_s": 1000})
    run.land("jan", rows=1)
    assert run.claim(run_type="manual", **more).new_spans == ("jan",)


def test_a_burst_within_the_cooldown_is_one_run_over_the_union(run: Run) -> None:
    """500 landings after a run: each announcement is skipped until the cooldown is over, then one run has them all."""
    deploy(run.home, trigger={"cooldown_s": 1000, "max_wait_s": 2000})
    run.land("0000")
    run.claim()
    approve(run)
    for number in range(500):
        run.land(f"{number + 1:04}")
    with pytest.raises(AirflowSkipException, match="cooldown after run p-"):
        run.claim("r2")
    deploy(run.home, "1" * 16)
    assert len(run.claim("r3").new_spans) == 500


def test_a_skipped_run_that_is_cleared_claims_anew(run: Run) -> None:
    """After the schema was corrected: the refused span is tried again on request, with a request of its own."""
    run.land("bad")
    first = run.claim()
    facts = {"refused": {"bad": "no rows"}}
    run.result("ExampleGen", ok=False, message="refused", error_type="SpanRefusedError", facts=facts)
    run.finish()
    again = run.claim(retry_refused=True)
    assert (again.run_id, again.new_spans) == (first.run_id, ("bad",))
