"""The question to a person: who is asked when, what the answer does, and where it stands in the DAG."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from ct.airflow.approval import AskForApproval
from ct.airflow.dag_factory import asked_about, build_dag
from ct.airflow.node import NodeOperator
from ct.airflow.verdict_view import verdict_page
from ct.config import PipelineConfig
from ct.contracts import (
    Approval,
    DeployedSpec,
    NodeResult,
    NodeSpec,
    Outcome,
    QuarantineRecord,
    Stage,
    TriggerKind,
)
from ct.gate_config import GateConfig
from ct.home import Home, write_atomically
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival
from ct.verdict_page.record import Question, answer, approval_of, ask, open_question
from tests.verdicts import AGREEMENT, WITHHELD, verdict_with

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
RUN = "p-1"
ADA = {"id": "admin", "name": "admin"}
TABLE = (
    # mode, inconclusive, outcome -> is a person asked?
    ("auto", "keep", Outcome.APPROVED, False),
    ("auto", "keep", Outcome.INCONCLUSIVE, False),
    ("auto", "wait", Outcome.INCONCLUSIVE, False),
    ("auto", "keep", Outcome.REFUSED, False),
    ("auto", "ask", Outcome.APPROVED, False),
    ("auto", "ask", Outcome.INCONCLUSIVE, True),
    ("auto", "ask", Outcome.REFUSED, False),
    ("manual", "keep", Outcome.APPROVED, True),
    ("manual", "keep", Outcome.INCONCLUSIVE, False),
    ("manual", "keep", Outcome.REFUSED, False),
    ("manual", "ask", Outcome.APPROVED, True),
    ("manual", "ask", Outcome.INCONCLUSIVE, True),
    ("manual", "ask", Outcome.REFUSED, False),
)


def gate(mode: str, inconclusive: str) -> GateConfig:
    """The gate block of pipeline.yaml."""
    return GateConfig.model_validate({"threshold": 0.5, "inconclusive": inconclusive, "approval": {"mode": mode}})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home, and an Airflow that takes questions."""
    monkeypatch.setenv("CT_HOME", str(tmp_path))
    return Home(tmp_path).create()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow was asked to show."""
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", _remember(questions))
    return questions


def judged(home: Home, outcome: Outcome) -> None:
    """The gate has judged."""
    facts = {"verdict": verdict_with(outcome=outcome).model_dump(mode="json")}
    result = NodeResult(node_id="Gate", ok=True, seconds=1, peak_rss_mb=1, facts=facts)
    write_atomically(home.runs / RUN / "Gate.result.json", result.model_dump_json())


def context(outcome: Outcome = Outcome.APPROVED) -> Any:
    """What a task gets."""
    xcoms = {"claim": {"run_id": RUN}, "Gate": {"outcome": outcome.value, "reason": "why"}}

    def xcom_pull(task_ids: str) -> Any:
        return xcoms.get(task_ids)

    ti = SimpleNamespace(id="t-1", try_number=1, xcom_pull=xcom_pull)
    return {"ti": ti, "task_instance": ti, "dag_run": SimpleNamespace(dag_id="p", run_id="manual__1")}


def question(asked: tuple[Outcome, ...] = (Outcome.APPROVED,), *, approves_by_default: bool = False) -> AskForApproval:
    """The task."""
    return AskForApproval(
        task_id="Approval",
        pipeline="p",
        asked=asked,
        timeout=timedelta(hours=24),
        approves_by_default=approves_by_default,
    )


def event(option: str = "Approve", user: dict[str, str] | None = ADA, **form: str) -> dict[str, Any]:
    """What Airflow hands over when a person has answered, or with `user=None` when the time is over."""
    return {
        "chosen_options": [option],
        "params_input": form,
        "responded_at": NOW,
        "responded_by_user": user,
        "timedout": user is None,
    }


@pytest.mark.parametrize(("mode", "inconclusive", "outcome", "is_asked"), TABLE)
def test_a_person_is_asked_exactly_where_the_policy_says(
    home: Home, asked: list[dict[str, Any]], mode: str, inconclusive: str, outcome: Outcome, *, is_asked: bool
) -> None:
    """Else the task succeeds at once and leaves the decision to the gate; while it waits it is parked, and says so on disk."""
    judged(home, outcome)
    task = question(asked_about(gate(mode, inconclusive)))
    if not is_asked:
        assert task.execute(context()) == {"asked": False}
        assert (asked, open_question(home, RUN)) == ([], None)
        return
    with pytest.raises(TaskAwaitingInput) as parked:
        task.execute(context())
    assert parked.value.timeout == timedelta(hours=24)
    assert open_question(home, RUN) is not None
    assert approval_of(home, RUN) is None


def test_the_question_holds_the_verdict(home: Home, asked: list[dict[str, Any]]) -> None:
    """Whoever answers in Airflow sees what was measured, where the page is, and what silence means."""
    judged(home, Outcome.APPROVED)
    with pytest.raises(TaskAwaitingInput):
        question().execute(context())
    (shown,) = asked
    assert shown["subject"] == "p: may the candidate judged on 2013-06 serve? (approved)"
    assert "| pass | auc better than the champion's by more than 0 | overall |" in shown["body"]
    assert "/ct/verdicts/p/manual__1" in shown["body"]
    assert "it is rejected" in shown["body"]
    assert (shown["options"], shown["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert set(shown["params"]) == {"reason", "by"}


def test_the_answer_is_on_disk_when_the_task_succeeds(home: Home) -> None:
    """Who, when and why, for Register and for whoever asks later."""
    told = question().execute_complete(context(), event(reason="looks right", by="ada"))
    expected = Approval(approved=True, by="ada (as Airflow's admin)", at=NOW, reason="looks right")
    assert approval_of(home, RUN) == expected
    assert told == {"asked": True, **expected.model_dump(mode="json")}
    assert json.loads(json.dumps(told)) == told


def test_an_answer_in_airflow_without_a_form_still_names_the_user(home: Home) -> None:
    """A REST client may send the option alone, or only one of the fields."""
    question().execute_complete(context(), event("Reject"))
    assert approval_of(home, RUN) == Approval(approved=False, by="admin", at=NOW, reason="no reason was given")
    question().execute_complete(context(), event("Reject", reason="no"))
    assert approval_of(home, RUN) == Approval(approved=False, by="admin", at=NOW, reason="no")


@pytest.mark.parametrize(("default", "option"), [(False, "Reject"), (True, "Approve")])
def test_silence_is_the_default_and_says_so(home: Home, option: str, *, default: bool) -> None:
    """The record names no person."""
    question(approves_by_default=default).execute_complete(context(), event(option, user=None, reason="", by=""))
    found = approval_of(home, RUN)
    assert found is not None
    assert (found.approved, found.by) == (default, "time-out")
    assert found.reason == "nobody answered within 1 day, 0:00:00"


def test_an_option_that_was_not_offered_is_no_answer(home: Home) -> None:
    """Nothing is written."""
    with pytest.raises(ValueError, match="Maybe"):
        question().execute_complete(context(), event("Maybe"))
    assert approval_of(home, RUN) is None


def test_a_new_verdict_is_asked_about_anew(home: Home, asked: list[dict[str, Any]]) -> None:
    """When the gate is cleared and judges again, the earlier answer does not count for it."""
    answer(home, RUN, Approval(approved=True, by="ada", at=NOW, reason="then"))
    judged(home, Outcome.APPROVED)
    with pytest.raises(TaskAwaitingInput):
        question().execute(context())
    assert approval_of(home, RUN) is None
    answer(home, RUN, Approval(approved=True, by="ada", at=NOW, reason="then"))
    judged(home, Outcome.REFUSED)
    assert question().execute(context()) == {"asked": False}
    assert approval_of(home, RUN) is None


def test_without_a_verdict_nobody_can_be_asked(home: Home) -> None:
    """As when somebody marked the gate's task as success by hand."""
    with pytest.raises(AirflowFailException, match="no verdict"):
        question().execute(context())


@pytest.mark.parametrize(
    ("outcome", "approved", "asked", "goes_on"),
    [
        (Outcome.APPROVED, None, (), True),
        (Outcome.REFUSED, None, (), False),
        (Outcome.INCONCLUSIVE, None, (), False),
        (Outcome.INCONCLUSIVE, True, (Outcome.INCONCLUSIVE,), True),
        (Outcome.INCONCLUSIVE, False, (Outcome.INCONCLUSIVE,), False),
        (Outcome.APPROVED, True, (Outcome.APPROVED,), True),
        (Outcome.APPROVED, False, (Outcome.APPROVED,), False),
        (Outcome.APPROVED, None, (Outcome.INCONCLUSIVE,), True),
    ],
)
def test_a_node_after_approval_goes_on_only_with_the_persons_yes_or_else_the_gates(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    approved: bool | None,  # noqa: FBT001  a column of the table
    asked: tuple[Outcome, ...],
    *,
    goes_on: bool,
) -> None:
    """Where a person answered, only the answer counts."""
    reached = RuntimeError("the node would run")
    monkeypatch.setattr("ct.airflow.node.RunRequest.model_validate_json", _raise(reached))
    write_atomically(home.request_path(RUN), "{}")
    if approved is not None:
        answer(home, RUN, Approval(approved=approved, by="ada", at=NOW, reason="because"))
    node = NodeOperator(task_id="Rollout", pipeline="p", after_approval=True, asked=asked)
    with pytest.raises(RuntimeError if goes_on else AirflowSkipException) as raised:
        node.execute(context(outcome))
    if approved is False:
        assert str(raised.value) == "ada rejected the candidate: because"


@pytest.mark.parametrize("node_id", ["Refit", "Register", "Rollout"])
def test_without_the_answer_that_is_asked_for_nothing_goes_on(home: Home, node_id: str) -> None:
    """As when somebody marked the asking task as success by hand: that is no answer, and no version may say it was one."""
    task = build_dag(home, _spec("manual", "keep")).get_task(node_id)
    with pytest.raises(AirflowFailException, match="Clear the task Approval to ask"):
        task.execute(context(Outcome.APPROVED))
    answer(home, RUN, Approval(approved=False, by="ada", at=NOW, reason="because"))
    write_atomically(home.request_path(RUN), "{}")
    with pytest.raises((AirflowSkipException, ValueError)):  # Register goes on to its request
        task.execute(context(Outcome.APPROVED))


def test_the_question_stands_between_the_gate_and_what_follows_it(home: Home) -> None:
    """Every node that waits for the gate waits for the answer; without a question the DAG is as it was."""
    plain = build_dag(home, _spec("auto", "keep"))
    assert "Approval" not in plain.task_ids
    dag = build_dag(home, _spec("manual", "keep"))
    approval = dag.get_task("Approval")
    assert approval.upstream_task_ids == {"Gate"}
    assert approval.downstream_task_ids == {"Refit", "Register"}
    assert dag.get_task("Register").upstream_task_ids == {"Approval", "Gate", "Refit"}
    assert dag.get_task("finish").node_ids == ("Gate", "Approval", "Refit", "Register", "Rollout")
    assert dag.get_task("Approval").execution_timeout is None
    assert dag.get_task("Gate").asked == ()
    assert "Approval" in build_dag(home, _spec("auto", "ask")).task_ids


def test_the_page_in_airflow_is_found_by_the_runs_name_in_the_ledger(home: Home) -> None:
    """A name that the ledger does not know leads to no file, whatever it looks like."""
    ledger = Ledger.open(home)
    arrival = Arrival(
        name="jan", source_uri="/in/j", uri="/in/j", format="csv", sha256="a", size_bytes=1, fingerprint="1"
    )
    ledger.record_landing("p", arrival)
    ledger.claim(
        Ask(
            pipeline="p",
            run_id=RUN,
            trigger=TriggerKind.MANUAL,
            airflow_dag_id="p",
            airflow_run_id="manual__1",
            asked_at=NOW,
            max_spans=None,
        )
    )
    status, page = verdict_page(home, "p", "manual__1")
    assert (status, f"Run {RUN} has no verdict. It is running." in page) == (404, True)
    judged(home, Outcome.REFUSED)
    ask(home, RUN, Question(asked_at=NOW, until=NOW, approves_by_default=False))
    assert "waits for a person" in verdict_page(home, "p", "manual__1")[1]
    answer(home, RUN, Approval(approved=False, by="<b>ada</b>", at=NOW, reason="no"))
    status, page = verdict_page(home, "p", "manual__1")
    assert status == 200
    assert "&lt;b&gt;ada&lt;/b&gt; rejected it" in page
    facts = {"version": 7, "agreement": AGREEMENT.model_dump(mode="json"), "withheld": WITHHELD}
    registered = NodeResult(node_id="Register", ok=True, seconds=1, peak_rss_mb=1, facts=facts)
    write_atomically(home.runs / RUN / "Register.result.json", registered.model_dump_json())
    record = QuarantineRecord(version=7, generation=2, fingerprints=(), reason="errors", by="monitor", at=NOW)
    write_atomically(home.models / "p" / "quarantine.json", f'{{"records": [{record.model_dump_json()}]}}')
    page = verdict_page(home, "p", "manual__1")[1]
    assert "by monitor, 2026-03-01 12:00 UTC: errors" in page
    assert "does not agree with its twin, which is this version, on 4,096 rows: AUC 0.7003 against 0.6342" in page
    assert "refused, rejected, withheld" in page
    for other in (f"../{RUN}", RUN, "<script>"):
        status, page = verdict_page(home, "p", other)
        assert status == 404
        assert "<script>" not in page


def _spec(mode: str, inconclusive: str) -> DeployedSpec:
    config = PipelineConfig.model_validate(
        {
            "name": "p",
            "description": "d",
            "owner": "o",
            "label": "y",
            "window": {"time_column": "t"},
            "gate": gate(mode, inconclusive).model_dump(mode="json"),
        }
    )
    wiring = (("Gate", ()), ("Refit", ("Gate",)), ("Register", ("Gate", "Refit")), ("Rollout", ("Register",)))
    nodes = tuple(
        NodeSpec(
            id=name,
            stage=Stage.EVALUATE if name == "Gate" else Stage.RELEASE,
            upstream=upstream,
            after_approval=name in ("Refit", "Rollout"),
            runs_when_upstream_skipped=name == "Register",
        )
        for name, upstream in wiring
    )
    return DeployedSpec(
        spec_hash="0" * 16,
        pipeline="p",
        config=config.model_dump(mode="json"),
        nodes=nodes,
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
    )


def _remember(questions: list[dict[str, Any]]) -> Any:
    def remember(**detail: Any) -> None:
        questions.append(detail)

    return remember


def _raise(error: Exception) -> Any:
    def raising(*_: Any) -> None:
        raise error

    return raising
