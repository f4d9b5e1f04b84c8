"""How a run's end is read from what its nodes left behind."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from ct.airflow.closing import ending_of
from ct.contracts import NodeResult, RunRequest, Span, TriggerKind
from ct.triggers.records import RunStatus

NOW = datetime(2013, 1, 1, tzinfo=timezone.utc)


def request(names: str, new: str) -> RunRequest:
    """A run over spans named by single letters."""
    spans = tuple(
        Span(pipeline="p", name=name, revision=1, sha256=name, uri=f"/{name}", format="csv", size_bytes=1, seen_at=NOW)
        for name in names
    )
    return RunRequest(
        run_id="p-1",
        pipeline="p",
        spec_hash="0",
        trigger=TriggerKind.DATA,
        requested_at=NOW,
        spans=spans,
        new_spans=tuple(new),
        seed=1,
        airflow_dag_id="p",
        airflow_run_id="r",
        mlflow_run_id=None,
    )


def result(
    node_id: str, *, ok: bool = True, message: str = "", error: str | None = None, **facts: object
) -> NodeResult:
    """What a node wrote."""
    return NodeResult(node_id=node_id, ok=ok, message=message, error_type=error, seconds=1, peak_rss_mb=1, facts=facts)


def gate(outcome: str) -> NodeResult:
    """A gate that spoke."""
    return result("Gate", outcome=outcome, reason="because")


@pytest.mark.parametrize(("outcome", "status"), [("approved", RunStatus.APPROVED), ("refused", RunStatus.REFUSED)])
def test_the_gate_decides_how_a_run_without_failures_ended(outcome: str, status: RunStatus) -> None:
    """The verdict's reason is the run's message, and the registered version its version."""
    results = {"Gate": gate(outcome), "Register": result("Register", version=3)}
    ending = ending_of(request("a", "a"), results, ())
    assert (ending.status, ending.message, ending.version) == (status, "because", 3)


def test_a_failure_after_approval_is_a_failed_run() -> None:
    """A model that was approved but did not reach serving is not a success."""
    results = {"Gate": gate("approved"), "Rollout": result("Rollout", ok=False, message="a worker refused")}
    ending = ending_of(request("a", "a"), results, ("Rollout",))
    assert (ending.status, ending.message) == (RunStatus.FAILED, "a worker refused")


def test_a_task_that_died_without_a_result_points_to_its_log() -> None:
    """Out of memory, or killed by hand."""
    ending = ending_of(request("a", "a"), {"Trainer": result("Trainer")}, ("Trainer", "Gate"))
    assert ending.status is RunStatus.FAILED
    assert ending.message == "Trainer failed; its log in Airflow says why"


def test_a_run_whose_gate_never_spoke_failed() -> None:
    """A run that somebody marked as successful was still not judged."""
    assert ending_of(None, {}, ()).status is RunStatus.FAILED


def test_a_span_that_cannot_be_read_is_refused() -> None:
    """By name, with the reader's reason."""
    bad = result("ExampleGen", ok=False, message="long", error="SpanRefusedError", span="b", reason="no rows")
    assert ending_of(request("ab", "b"), {"ExampleGen": bad}, ("ExampleGen",)).refused == {"b": "no rows"}


@pytest.mark.parametrize(
    ("names", "new", "splits", "refused"),
    [
        ("abc", "c", ["eval"], ["c"]),
        ("abc", "bc", ["train"], ["b"]),
        ("abc", "bc", ["train", "eval"], ["b", "c"]),
        ("abc", "b", ["eval"], ["c"]),
        ("a", "a", ["train"], ["a"]),
        ("ab", "b", ["train"], []),
    ],
)
def test_anomalies_refuse_the_spans_that_the_split_holds(
    names: str, new: str, splits: list[str], refused: list[str]
) -> None:
    """`eval` is the newest span; in `train` only new spans are taken out, because the older ones had passed."""
    anomalies = [f"{split}: x: unexpected" for split in splits]
    bad = result("ExampleValidator", ok=False, message="m", error="DataAnomalyError", anomalies=anomalies)
    ending = ending_of(request(names, new), {"ExampleValidator": bad}, ("ExampleValidator",))
    assert list(ending.refused) == refused


def test_any_other_failure_refuses_no_span() -> None:
    """A bug in model.py is no reason to throw data away."""
    bad = result("Trainer", ok=False, message="nan", error="ValueError", span="a")
    assert ending_of(request("a", "a"), {"Trainer": bad}, ("Trainer",)).refused == {}
