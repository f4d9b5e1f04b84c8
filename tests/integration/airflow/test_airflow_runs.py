"""Runs on a real Airflow; only the nodes and MLflow are stand-ins."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from airflow_stack import APPROVED, REFUSED

from ct.contracts import TriggerKind
from ct.errors import OrchestratorError
from ct.triggers.records import EventOutcome, RunStatus, SpanState

if TYPE_CHECKING:
    from airflow_stack import Stack

    from ct.airflow.api import DagRun
    from ct.triggers.records import RunRecord

pytestmark = pytest.mark.timeout(300)


def run_of(stack: Stack, span: str) -> RunRecord | None:
    """The newest run that claimed the span."""
    return next((run for run in stack.ledger.runs("tiny") if span in run.spans), None)


def ended(stack: Stack, span: str, *statuses: RunStatus) -> RunRecord:
    """Wait until the run that claimed the span ended in the ledger and in Airflow."""

    def found() -> RunRecord | None:
        run = run_of(stack, span)
        return run if run is not None and run.status in statuses else None

    run: RunRecord = stack.until(f"run of {span}", found, timeout_s=90)
    stack.until("end in Airflow", lambda: airflow_run(stack, run).state in ("success", "failed"))
    return run


def airflow_run(stack: Stack, run: RunRecord) -> DagRun:
    """Airflow's side of a run."""
    return next(found for found in stack.api.dag_runs("tiny") if found.run_id == run.airflow_run_id)


def states(stack: Stack, run: RunRecord) -> dict[str, str | None]:
    """Task -> state."""
    return {task.task_id: task.state for task in stack.api.task_instances("tiny", run.airflow_run_id)}


def state_of(stack: Stack, span: str) -> SpanState:
    """Where a span stands."""
    return next(record.state for record in stack.ledger.spans("tiny") if record.span.name == span)


def test_a_landed_file_becomes_an_approved_run(stack: Stack) -> None:
    """A file that lands is claimed, every node runs in order, and the ledger knows it as trained, with the version."""
    stack.answers(APPROVED)
    stack.until("the DAG", lambda: _dag_is_there(stack))
    landed_at = stack.land("tiny", "2013-01", "a\n1\n")
    run = ended(stack, "2013-01", RunStatus.APPROVED, RunStatus.FAILED)
    assert run.status is RunStatus.APPROVED, run.message
    assert (run.version, run.message, run.mlflow_run_id) == (7, "better than nothing", "m1")
    assert set(states(stack, run).values()) == {"success"}
    assert airflow_run(stack, run).state == "success"
    assert state_of(stack, "2013-01") is SpanState.TRAINED
    log = stack.api.task_log("tiny", run.airflow_run_id, "Trainer", 1)
    assert "stand-in for Trainer" in log
    assert "no warm worker" in log
    _write_times(stack, run, landed_at)


def test_the_same_bytes_again_start_no_run(stack: Stack) -> None:
    """A copy of a known file under another name is a duplicate in the ledger, and no run begins."""
    before = len(stack.api.dag_runs("tiny"))
    stack.land("tiny", "copy-of-january", "a\n1\n")
    event = stack.until("event", lambda: _event(stack, "copy-of-january"))
    assert event.outcome is EventOutcome.DUPLICATE
    assert len(stack.api.dag_runs("tiny")) == before


def test_a_file_that_lands_during_a_run_gets_the_next_run(stack: Stack) -> None:
    """Runs do not overlap: a second file waits until the first run ended, and then trains on both."""
    stack.answers({**REFUSED, "Trainer": {"ok": True, "seconds": 3}})
    stack.land("tiny", "2013-02", "a\n2\n")
    stack.until("first run", lambda: run_of(stack, "2013-02"))
    stack.land("tiny", "2013-03", "a\n3\n")
    first = ended(stack, "2013-02", RunStatus.REFUSED)
    second = ended(stack, "2013-03", RunStatus.REFUSED)
    assert first.finished_at is not None
    assert second.started_at >= first.finished_at
    assert second.window == ("2013-01", "2013-02", "2013-03")
    assert second.spans == ("2013-03",)


def test_a_refused_candidate_is_a_successful_run_with_skipped_release(stack: Stack) -> None:
    """The gate's no is a result, not a failure: Refit and Rollout are skipped, Register records, the run succeeds."""
    run = ended(stack, "2013-03", RunStatus.REFUSED)
    found = states(stack, run)
    assert (found["Refit"], found["Register"], found["Rollout"], found["finish"]) == (
        "skipped",
        "success",
        "skipped",
        "success",
    )
    assert airflow_run(stack, run).state == "success"
    assert state_of(stack, "2013-03") is SpanState.TRAINED


def test_a_failed_node_fails_the_run_and_a_cleared_task_mends_it(stack: Stack) -> None:
    """After retries the run is failed and its span waits; clearing the task runs the rest, under the same run id."""
    stack.answers({**APPROVED, "Trainer": {"ok": False, "retryable": True, "message": "loss is nan"}})
    stack.land("tiny", "2013-04", "a\n4\n")
    failed = ended(stack, "2013-04", RunStatus.FAILED)
    assert failed.message == "loss is nan"
    assert airflow_run(stack, failed).state == "failed"
    tries = {task.task_id: task.try_number for task in stack.api.task_instances("tiny", failed.airflow_run_id)}
    assert tries["Trainer"] == 2
    assert state_of(stack, "2013-04") is SpanState.WAITING
    assert ("runs/update", "FAILED") in [(name, body.get("status")) for name, body in stack.mlflow_calls]

    stack.answers(APPROVED)
    stack.api.clear("tiny", failed.airflow_run_id, ["Trainer"])
    mended = ended(stack, "2013-04", RunStatus.APPROVED)
    assert mended.run_id == failed.run_id
    assert state_of(stack, "2013-04") is SpanState.TRAINED
    assert airflow_run(stack, mended).state == "success"


def test_a_refused_span_is_not_tried_again(stack: Stack) -> None:
    """Bad data ends the run at once as skipped, without a retry, and the next good span trains without it."""
    refusal = {"refused": {"2013-05": "it has no rows"}}
    bad = {"ok": False, "error_type": "SpanRefusedError", "message": "Span refused", "facts": refusal}
    stack.answers({**APPROVED, "ExampleGen": bad})
    stack.land("tiny", "2013-05", "")
    stopped = ended(stack, "2013-05", RunStatus.SKIPPED)
    tries = {task.task_id: task.try_number for task in stack.api.task_instances("tiny", stopped.airflow_run_id)}
    assert tries["ExampleGen"] == 1
    stack.until("end", lambda: airflow_run(stack, stopped).state == "success")
    found = states(stack, stopped)
    assert (found.pop("claim"), found.pop("finish"), set(found.values())) == ("success", "success", {"skipped"})
    assert state_of(stack, "2013-05") is SpanState.REFUSED
    stack.answers(APPROVED)
    stack.land("tiny", "2013-06", "a\n6\n")
    run = ended(stack, "2013-06", RunStatus.APPROVED)
    assert "2013-05" not in run.window


def test_a_manual_run_without_news_is_skipped_and_a_forced_one_runs(stack: Stack) -> None:
    """`ct trigger` with nothing new skips every task and says so; with force it retrains on the window as it is."""
    idle = stack.api.trigger("tiny")
    skipped = stack.until("skipped run", lambda: stack.ledger.run_of("tiny", idle))
    assert skipped.status is RunStatus.SKIPPED
    assert "nothing has landed" in skipped.message
    stack.until("end", lambda: airflow_run(stack, skipped).state == "success")
    assert set(states(stack, skipped).values()) == {"skipped"}
    forced = stack.api.trigger("tiny", {"force": True})
    run = stack.until("forced run", lambda: _approved(stack, forced), timeout_s=90)
    assert run.spans == ()
    assert run.window[-1] == "2013-06"


def test_a_run_that_somebody_fails_is_closed_and_its_node_ended(stack: Stack) -> None:
    """Marking a run as failed in Airflow kills its node; its span goes to the next run."""
    stack.answers({**APPROVED, "Trainer": {"ok": True, "seconds": 60}})
    stack.land("tiny", "2013-07", "a\n7\n")
    stopped = stack.until("run", lambda: run_of(stack, "2013-07"))
    stack.until("Trainer", lambda: states(stack, stopped).get("Trainer") == "running")
    stack.api._call("PATCH", f"/api/v2/dags/tiny/dagRuns/{stopped.airflow_run_id}", json={"state": "failed"})
    assert ended(stack, "2013-07", RunStatus.FAILED).run_id == stopped.run_id
    assert airflow_run(stack, stopped).state == "failed"
    stack.until("no node left", lambda: not stack.node_processes())
    stack.answers(APPROVED)
    stack.land("tiny", "2013-08", "a\n8\n")
    assert ended(stack, "2013-08", RunStatus.APPROVED).spans == ("2013-07", "2013-08")


def test_a_scheduled_pipeline_is_backfilled_with_what_had_been_seen_by_then(stack: Stack) -> None:
    """Airflow accepts the backfill; a date before any span was seen is a skipped run that says so."""
    stack.deploy("weekly", schedule="0 9 * * FRI", timezone="America/New_York")
    stack.until("the DAG", lambda: _dag_is_there(stack, "weekly"))
    stack.api.backfill("weekly", datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 8, tzinfo=timezone.utc))
    (run,) = stack.until("backfill", lambda: stack.ledger.runs("weekly"))
    assert (run.trigger, run.status) == (TriggerKind.BACKFILL, RunStatus.SKIPPED)
    assert run.message == "no span has landed yet"


def test_a_broken_spec_is_an_import_error_and_the_others_run_on(stack: Stack) -> None:
    """A spec that does not parse is shown by Airflow with its pipeline's name; other pipelines keep their DAGs."""
    stack.deploy("broken")
    path = next((stack.home.deployed / "broken").glob("specs/*/spec.json"))
    path.write_text(json.dumps({"pipeline": "broken"}))
    errors = stack.until("import error", lambda: _errors_about(stack, "broken"), timeout_s=30)
    assert '"broken"' in errors[0]
    stack.land("tiny", "2013-09", "a\n9\n")
    assert ended(stack, "2013-09", RunStatus.APPROVED, RunStatus.FAILED).status is RunStatus.APPROVED


def _dag_is_there(stack: Stack, pipeline: str = "tiny") -> bool:
    try:
        stack.api.dag_runs(pipeline)
    except OrchestratorError:
        return False
    return True


def _event(stack: Stack, name: str) -> object:
    return next((event for event in stack.ledger.events("tiny") if event.name == name), None)


def _approved(stack: Stack, airflow_run_id: str) -> RunRecord | None:
    run = stack.ledger.run_of("tiny", airflow_run_id)
    return run if run is not None and run.status is RunStatus.APPROVED else None


def _errors_about(stack: Stack, pipeline: str) -> list[str]:
    return [error for error in stack.api.import_errors() if f'"{pipeline}"' in error]


def _write_times(stack: Stack, run: RunRecord, landed_at: float) -> None:
    """logs/times.txt: the numbers that docs quote."""
    tasks = stack.api.task_instances("tiny", run.airflow_run_id)
    begun = [task.start_date.timestamp() for task in tasks if task.start_date]
    done = [task.end_date.timestamp() for task in tasks if task.end_date]
    gaps = [start - end for start, end in zip(begun[1:], done[:-1], strict=True)]
    spent = [end - start for start, end in zip(begun, done, strict=True)]
    names = [task.task_id for task in tasks]
    lines = [
        f"landing to claim {begun[0] - landed_at:.2f} s, whole chain {done[-1] - begun[0]:.2f} s",
        f"in tasks {dict(zip(names, (round(seconds, 2) for seconds in spent), strict=True))}",
        f"between tasks {[round(gap, 2) for gap in gaps]}",
    ]
    (stack.home.logs / "times.txt").write_text("\n".join(lines))
