"""How a run's end is read from what its nodes left behind."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from ct.airflow.closing import ending_of, stopped_by_data
from ct.contracts import Approval, NodeResult, RunRequest, Span, TriggerKind
from ct.home import Home, write_atomically
from ct.triggers.records import RunStatus, SkipCause

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("approved", RunStatus.APPROVED),
        ("refused", RunStatus.REFUSED),
        ("inconclusive", RunStatus.INCONCLUSIVE),
    ],
)
def test_the_gate_decides_how_a_run_without_failures_ended(outcome: str, status: RunStatus) -> None:
    """The verdict's reason is the run's message, and the registered version its version."""
    results = {"Gate": gate(outcome), "Register": result("Register", version=3)}
    ending = ending_of(request("a", "a"), results, ())
    assert (ending.status, ending.message, ending.version) == (status, "because", 3)


@pytest.mark.parametrize(("approved", "status"), [(True, RunStatus.APPROVED), (False, RunStatus.REFUSED)])
def test_a_persons_answer_is_the_end_of_a_run_that_was_asked_about(approved: bool, status: RunStatus) -> None:  # noqa: FBT001  the case
    """With their name and words, and the gate's reason behind them."""
    results = {"Gate": gate("inconclusive"), "Register": result("Register", version=3)}
    approval = Approval(approved=approved, by="ann", at=NOW, reason="looks right")
    ending = ending_of(request("a", "a"), results, (), approval)
    assert ending.status is status
    assert ending.message.endswith("by ann: looks right. The gate: because")


@pytest.mark.parametrize("asked", [True, False])
def test_a_candidate_that_is_withheld_is_refused(asked: bool) -> None:  # noqa: FBT001  the case
    """Though gate or person approved: its refit does not agree. Nothing failed, so nothing is tried again; it has a version."""
    register = result("Register", message="version 3 registered, withheld", version=3, withheld="its refit does not")
    approval = Approval(approved=True, by="ann", at=NOW, reason="looks right") if asked else None
    ending = ending_of(request("a", "a"), {"Gate": gate("approved"), "Register": register}, (), approval)
    assert (ending.status, ending.version) == (RunStatus.REFUSED, 3)
    assert ending.message == "version 3 registered, withheld"


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


def test_spans_that_cannot_be_read_are_refused() -> None:
    """Every one that the node found, by name, with the reader's reason."""
    found = {"b": "no rows", "c": "no header"}
    bad = result("ExampleGen", ok=False, message="long", error="SpanRefusedError", refused=found)
    ending = ending_of(request("abc", "bc"), {"ExampleGen": bad}, ("ExampleGen",))
    assert (ending.refused, ending.status, ending.cause) == (
        found,
        RunStatus.SKIPPED,
        SkipCause.UNREADABLE_SPAN,
    )


def test_a_run_that_its_data_stopped_is_skipped_whatever_airflow_calls_its_tasks() -> None:
    """Skipped tasks, failed ones, or a run that ended unnoticed; nothing failed, and the reason is the data's."""
    bad = result("ExampleValidator", ok=False, message="breaks", error="DataAnomalyError", anomalies=["eval: x: y"])
    results = {"ExampleGen": result("ExampleGen"), "ExampleValidator": bad}
    for failed in ((), ("ExampleValidator", "Trainer"), ("the run",)):
        ending = ending_of(request("a", "a"), results, failed)
        assert (ending.status, ending.message, ending.cause) == (RunStatus.SKIPPED, "breaks", SkipCause.SCHEMA_BREAK)


def test_an_error_of_the_data_after_training_is_a_failure() -> None:
    """Then the compute was spent, and something let the data through that should not have."""
    bad = result("Refit", ok=False, message="gone", error="SpanRefusedError", refused={"a": "gone"})
    results = {"Trainer": result("Trainer"), "Gate": gate("approved"), "Refit": bad}
    assert ending_of(request("a", "a"), results, ("Refit",)).status is RunStatus.FAILED
    del results["Gate"]
    assert ending_of(request("a", "a"), results, ("Refit",)).status is RunStatus.FAILED


def test_later_nodes_are_told_what_stopped_the_run(tmp_path: Path) -> None:
    """Only by the nodes that they need: what a cleared run left behind of others says nothing."""
    home = Home(tmp_path)
    written = (
        result("ExampleGen", ok=False, message="no rows", error="SpanRefusedError"),
        result("Trainer", ok=False, message="nan", error="ValueError"),
    )
    for found in written:
        write_atomically(home.runs / "p-1" / f"{found.node_id}.result.json", found.model_dump_json())
    assert (
        stopped_by_data(home, "p-1", ["ExampleGen", "Schema"]) == "ExampleGen stopped the run before training: no rows"
    )
    assert stopped_by_data(home, "p-1", ["Trainer"]) is None
    assert stopped_by_data(home, "p-1", []) is None


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
