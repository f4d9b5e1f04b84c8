"""The task of a node: its job, its retries, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)
from task_run import Run, execute

from ct.airflow.node import NodeOperator
from ct.errors import NodeFailedError, PlaneMissingError
from ct.triggers.records import RunStatus, SpanState

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import NodeJob


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


def test_a_withheld_version_is_neither_proven_nor_rolled_out(
    run: Run, node: Callable[[Any], list[NodeJob]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate was approved, and its refit does not agree with it. What runs before Register is not held back."""
    jobs = node({"ok": True})
    run.land("jan")
    run.claim()
    run.xcoms["Gate"] = {"outcome": "approved"}
    run.xcoms["Register"] = {"version": 3, "may_serve": False, "withheld": "its refit does not agree with it"}
    execute(run, "Refit", after_approval=True)  # cleared: what Register said is of the attempt before
    assert len(jobs) == 1
    monkeypatch.setattr(NodeOperator, "get_flat_relative_ids", lambda *_, **__: {"Gate", "Register"})
    with pytest.raises(AirflowSkipException, match="Version 3 is withheld: its refit does not agree with it"):
        execute(run, "Rollout", after_approval=True)
    assert len(jobs) == 1
    run.xcoms["Register"] = {"version": 3, "may_serve": True, "withheld": None}
    execute(run, "Rollout", after_approval=True)
    assert len(jobs) == 2


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
