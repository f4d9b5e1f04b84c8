"""The last task of a run: what it writes down."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
)
from task_run import Registry, Run

from ct.triggers.records import RunStatus, SkipCause, SpanState


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
