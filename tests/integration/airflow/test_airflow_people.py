"""A person's answer on a real Airflow: asked, waited for without a worker slot, answered by `ct` or by the time-out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from airflow_stack import APPROVED

from ct.contracts import Outcome
from ct.errors import OrchestratorError
from ct.triggers.records import RunStatus
from ct.verdict_page.record import approval_of
from tests.verdicts import verdict_with

if TYPE_CHECKING:
    from airflow_stack import Stack

    from ct.triggers.records import RunRecord

pytestmark = pytest.mark.timeout(300)
MANUAL = {"approval": {"mode": "manual"}}
HASTY = {"inconclusive": "ask", "approval": {"timeout_s": 3}}


def answers(outcome: Outcome) -> dict[str, Any]:
    """What the stand-in nodes answer."""
    facts = {
        "outcome": outcome.value,
        "reason": "what the gate found",
        "verdict": verdict_with(outcome=outcome).model_dump(mode="json"),
    }
    return {**APPROVED, "Gate": {"ok": True, "facts": facts}}


def ct(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ct` as a person does."""
    command = [sys.executable, "-m", "ct.cli.main", *arguments]
    environment = {**os.environ, "CT_HOME": str(stack.home.root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def begun(stack: Stack, pipeline: str, span: str) -> RunRecord:
    """A span lands; the run that claimed it."""
    stack.until("the DAG", lambda: _dag_is_there(stack, pipeline))
    stack.land(pipeline, span, f"a\n{span}\n")
    run: RunRecord = stack.until("run", lambda: _run_of(stack, pipeline, span))
    return run


def waiting(stack: Stack, pipeline: str, span: str) -> RunRecord:
    """The same, once it waits for a person."""
    run = begun(stack, pipeline, span)
    stack.until("parked", lambda: states(stack, run).get("Approval") == "awaiting_input")
    return run


def ended(stack: Stack, run: RunRecord, timeout_s: float = 60.0) -> RunRecord:
    """Wait for the run's end in the ledger and in Airflow."""

    def found() -> RunRecord | None:
        now = stack.ledger.run(run.run_id)
        return now if now is not None and now.status is not RunStatus.RUNNING else None

    after: RunRecord = stack.until("end", found, timeout_s=timeout_s)
    stack.until("end in Airflow", lambda: states(stack, run).get("finish") == "success")
    return after


def states(stack: Stack, run: RunRecord) -> dict[str, str | None]:
    """Task -> state."""
    return {task.task_id: task.state for task in stack.api.task_instances(run.airflow_dag_id, run.airflow_run_id)}


def page(stack: Stack, run: RunRecord, headers: dict[str, str] | None = None) -> httpx.Response:
    """The verdict's page in Airflow's UI, asked for with these headers."""
    path = f"/ct/verdicts/{run.airflow_dag_id}/{run.airflow_run_id}"
    return httpx.get(stack.settings.airflow_base_url + path, headers=headers, trust_env=False, timeout=20)


def token(stack: Stack) -> dict[str, str]:
    """The header of somebody who has logged in."""
    stack.api.dag_runs("manual")
    return {"Authorization": stack.api._client.headers["Authorization"]}


@pytest.fixture(scope="module", autouse=True)
def _deployed(stack: Stack) -> None:
    stack.deploy("manual", gate=MANUAL)
    stack.deploy("hasty", gate=HASTY)


def test_a_manual_approval_waits_without_a_worker_slot_and_goes_on_with_ct_approve(stack: Stack) -> None:
    """While it waits no task runs, `ct` says what it waits for, and the yes is on record with name and reason."""
    stack.answers(answers(Outcome.APPROVED))
    run = waiting(stack, "manual", "2013-01")
    pool = stack.until("no slot", lambda: _unused(stack))
    assert (pool["occupied_slots"], pool["running_slots"], pool["queued_slots"]) == (0, 0, 0)
    assert states(stack, run)["Register"] is None
    assert "waits for a person" in ct(stack, "runs", "manual").stdout
    (question,) = stack.api.waiting("manual")
    assert question.subject == "manual: may the candidate judged on 2013-06 serve? (approved)"
    told = ct(stack, "approve", "manual", "--reason", "looks right", "--by", "ada")
    assert told.returncode == 0, told.stderr
    after = ended(stack, run)
    assert (after.status, after.version) == (RunStatus.APPROVED, 7)
    assert "approved by ada (as Airflow's admin): looks right" in after.message
    assert set(states(stack, run).values()) == {"success"}
    again = ct(stack, "approve", "manual", "--run", run.run_id, "--reason", "once more")
    assert (again.returncode, "was approved by ada" in again.stderr) == (1, True)


def test_the_verdicts_page_is_in_airflows_ui_for_who_may_read_the_dag(stack: Stack) -> None:
    """A tab of the run, a button on the gate; nobody else gets it, and nothing else is served."""
    run = stack.ledger.runs("manual")[0]
    assert page(stack, run).status_code == 401
    assert page(stack, run, {"Authorization": "Bearer no"}).status_code == 403
    shown = page(stack, run, token(stack))
    assert shown.status_code == 200, shown.text
    assert "ada (as Airflow&#x27;s admin) approved it" in shown.text
    assert "carrier=C00" in shown.text
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
    for path in ("/ct/", "/ct/verdicts/manual/..%2f..%2fsecrets", "/ct/verdicts/../../secrets/airflow-keys.json"):
        url = stack.settings.airflow_base_url + path
        answer = httpx.get(url, headers=token(stack), trust_env=False, timeout=20)
        assert "fernet" not in answer.text
    plugins = stack.api._call("GET", "/api/v2/plugins")["plugins"]
    (mine,) = [plugin for plugin in plugins if plugin["name"] == "ct"]
    assert mine["external_views"][0]["destination"] == "dag_run"
    assert stack.api._call("GET", "/api/v2/plugins/importErrors")["total_entries"] == 0
    links = f"/api/v2/dags/manual/dagRuns/{run.airflow_run_id}/taskInstances/Gate/links"
    (link,) = stack.api._call("GET", links)["extra_links"].values()
    assert re.fullmatch(r"/ct/verdicts/manual/\S+", link)
    answer = httpx.get(stack.settings.airflow_base_url + link, headers=token(stack), trust_env=False, timeout=20)
    assert answer.status_code == 200


def test_a_rejection_is_an_answer_and_no_failure(stack: Stack) -> None:
    """What would serve is skipped with the person's words, Register records, and the run ends as refused."""
    stack.answers(answers(Outcome.APPROVED))
    run = waiting(stack, "manual", "2013-02")
    told = ct(stack, "reject", "manual", "--run", run.run_id, "--reason", "the strike is in it", "--by", "bob")
    assert told.returncode == 0, told.stderr
    after = ended(stack, run)
    found = states(stack, run)
    assert (found["Refit"], found["Register"], found["Rollout"]) == ("skipped", "success", "skipped")
    assert after.status is RunStatus.REFUSED
    assert "rejected by bob (as Airflow's admin): the strike is in it" in after.message
    log = stack.api.task_log("manual", run.airflow_run_id, "Refit", 1)
    assert "bob (as Airflow's admin) rejected the candidate: the strike is in it" in log


def test_the_default_answers_when_the_time_is_over(stack: Stack) -> None:
    """Nobody did; the record says so. An outcome that is not asked about passes the task at once."""
    stack.answers(answers(Outcome.INCONCLUSIVE))
    run = begun(stack, "hasty", "2013-01")
    after = ended(stack, run, timeout_s=90)
    assert after.status is RunStatus.REFUSED
    found = approval_of(stack.home, run.run_id)
    assert found is not None
    assert (found.approved, found.by, found.reason) == (False, "time-out", "nobody answered within 0:00:03")
    assert states(stack, run)["Rollout"] == "skipped"
    stack.answers(answers(Outcome.APPROVED))
    run = begun(stack, "hasty", "2013-02")
    assert ended(stack, run).status is RunStatus.APPROVED
    assert approval_of(stack.home, run.run_id) is None
    assert "Nobody is asked." in stack.api.task_log("hasty", run.airflow_run_id, "Approval", 1)


def _unused(stack: Stack) -> dict[str, Any] | None:
    pool = stack.api._call("GET", "/api/v2/pools/default_pool")
    return pool if pool["occupied_slots"] == 0 else None


def _run_of(stack: Stack, pipeline: str, span: str) -> RunRecord | None:
    return next((run for run in stack.ledger.runs(pipeline) if span in run.spans), None)


def _dag_is_there(stack: Stack, pipeline: str) -> bool:
    try:
        stack.api.dag_runs(pipeline)
    except OrchestratorError:
        return False
    return True
