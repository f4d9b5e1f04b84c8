"""`ct approve` and `ct reject`, and how a run that waits for a person is shown. Airflow is a function."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click
import httpx
import pytest

from ct.airflow.api import AirflowApi
from ct.cli.main import cli
from ct.config import PipelineConfig
from ct.contracts import Approval, DeployedSpec, DesiredState, NodeResult, Outcome, TriggerKind
from ct.errors import CTError, OrchestratorError
from ct.home import Home, write_atomically
from ct.rollout import ModelStore
from ct.triggers.claims import Ask
from ct.triggers.ledger import Ledger
from ct.triggers.records import Arrival, RunStatus
from ct.verdict_page.record import Question, answer, ask
from tests.verdicts import verdict_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime.now(timezone.utc)
QUESTION = Question(asked_at=NOW, until=NOW + timedelta(days=1), approves_by_default=False)


class Airflow:
    """Answers like Airflow's API."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.taken: list[tuple[str, Any]] = []
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        if request.method == "PATCH":
            self.taken.append((path, json.loads(request.content)))
            return httpx.Response(self.status, json={"detail": "not allowed to write again"})
        assert path == "/api/v2/dags/p/dagRuns/~/hitlDetails"
        query = dict(request.url.params)
        assert (query["response_received"], query["task_id"]) == ("false", "Approval")
        details = [
            {
                "subject": f"may {run} serve?",
                "created_at": NOW.isoformat(),
                "task_instance": {"dag_id": "p", "dag_run_id": run, "task_id": "Approval", "map_index": -1, "x": 1},
            }
            for run in self.waiting
        ]
        return httpx.Response(200, json={"hitl_details": details, "total_entries": len(details)})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with the pipeline `p`."""
    home = Home(tmp_path).create()
    monkeypatch.setenv("CT_HOME", str(home.root))
    config = {
        "name": "p",
        "description": "d",
        "owner": "o",
        "label": "y",
        "window": {"time_column": "t"},
        "gate": {"threshold": 0.5},
    }
    spec = DeployedSpec(
        spec_hash="0" * 16,
        pipeline="p",
        config=PipelineConfig.model_validate(config).model_dump(mode="json"),
        nodes=(),
        readme="",
        deployed_at=NOW,
        code_commit=None,
        requirement_hashes={},
    )
    write_atomically(home.deployed / "p" / "specs" / spec.spec_hash / "spec.json", spec.model_dump_json())
    write_atomically(home.deployed / "p" / "current.json", json.dumps({"spec_hash": spec.spec_hash}))
    return home


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """The server that every client of these tests talks to."""
    server = Airflow()
    real = AirflowApi.__init__
    monkeypatch.setattr(
        AirflowApi, "__init__", lambda self, settings, home: real(self, settings, home, httpx.MockTransport(server))
    )
    return server


@pytest.fixture
def ct(home: Home, airflow: Airflow, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process; returns its standard output."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        cli.main(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def begin(home: Home, run_id: str, airflow_run_id: str) -> Ledger:
    """A run that goes on."""
    ledger = Ledger.open(home)
    uri = f"/in/{run_id}"
    arrival = Arrival(name=run_id, source_uri=uri, uri=uri, format="csv", sha256=run_id, size_bytes=1, fingerprint="1")
    ledger.record_landing("p", arrival)
    ledger.claim(
        Ask(
            pipeline="p",
            run_id=run_id,
            trigger=TriggerKind.MANUAL,
            airflow_dag_id="p",
            airflow_run_id=airflow_run_id,
            asked_at=NOW,
            max_spans=None,
        )
    )
    return ledger


@pytest.mark.parametrize(("command", "option"), [("approve", "Approve"), ("reject", "Reject")])
def test_the_one_run_that_waits_is_answered(
    home: Home, airflow: Airflow, ct: Callable[..., str], command: str, option: str
) -> None:
    """With the reason and the name, over Airflow's REST API."""
    begin(home, "p-1", "manual__1")
    airflow.waiting = ["manual__1"]
    shown = ct(command, "p", "--reason", " looks right ", "--by", "ada")
    path = "/api/v2/dags/p/dagRuns/manual__1/taskInstances/Approval/-1/hitlDetails"
    form = {"reason": "looks right", "by": "ada"}
    assert airflow.taken == [(path, {"chosen_options": [option], "params_input": form})]
    assert "the candidate of run p-1 as ada" in shown


def test_the_name_is_the_users_when_none_is_given(
    home: Home, airflow: Airflow, ct: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And scripts get an object."""
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    begin(home, "p-1", "manual__1")
    airflow.waiting = ["manual__1"]
    told = json.loads(ct("approve", "p", "--reason", "yes", "--json"))
    assert told == {"pipeline": "p", "run_id": "p-1", "approved": True, "by": "grace", "reason": "yes"}


def test_a_reason_is_needed(ct: Callable[..., str], airflow: Airflow) -> None:
    """It is kept for ever."""
    airflow.waiting = ["manual__1"]
    with pytest.raises(click.UsageError, match="reason"):
        ct("approve", "p")
    with pytest.raises(click.BadParameter, match="say why"):
        ct("approve", "p", "--reason", "  ")
    assert airflow.taken == []


def test_a_candidate_that_met_another_champion_is_not_approved(
    home: Home, airflow: Airflow, ct: Callable[..., str]
) -> None:
    """A rollback came while it waited: its rollout would be refused after minutes of work. Rejecting it is as ever."""
    begin(home, "p-1", "manual__1")
    airflow.waiting = ["manual__1"]
    verdict = verdict_with(outcome=Outcome.INCONCLUSIVE)
    result = NodeResult(
        node_id="Gate", ok=True, seconds=1, peak_rss_mb=1, facts={"verdict": verdict.model_dump(mode="json")}
    )
    write_atomically(home.runs / "p-1" / "Gate.result.json", result.model_dump_json())
    store = ModelStore(home, "p")
    store.desire(DesiredState(name="p", generation=9, version=5, previous=6, warm=(5,)))
    with pytest.raises(CTError, match=r"judged against version 6, and version 5 serves now.*ct reject p --run p-1"):
        ct("approve", "p", "--reason", "yes")
    assert airflow.taken == []
    ct("reject", "p", "--reason", "no")
    store.desire(DesiredState(name="p", generation=10, version=6, previous=5, warm=(6,)))
    ct("approve", "p", "--reason", "yes")
    assert len(airflow.taken) == 2


def test_when_nothing_waits_it_says_what_else_there_is(ct: Callable[..., str]) -> None:
    """`--force` is the way for a version that the gate did not approve."""
    with pytest.raises(CTError, match=r"No run of p waits for a person.*--force") as raised:
        ct("approve", "p", "--reason", "yes")
    assert raised.value.facts == {"pipeline": "p"}


def test_when_several_wait_they_are_listed_and_one_is_chosen_by_either_id(
    home: Home, airflow: Airflow, ct: Callable[..., str]
) -> None:
    """By ct's id or by Airflow's."""
    begin(home, "p-1", "manual__1")
    airflow.waiting = ["manual__1", "manual__2"]
    with pytest.raises(CTError, match=r"(?s)Several runs of p.*--run.*p-1.*manual__2"):
        ct("reject", "p", "--reason", "no")
    assert airflow.taken == []
    ct("reject", "p", "--run", "p-1", "--reason", "no")
    ct("reject", "p", "--run", "manual__2", "--reason", "no")
    assert [path.split("/")[6] for path, _ in airflow.taken] == ["manual__1", "manual__2"]


def test_a_run_that_does_not_wait_says_how_it_stands(home: Home, ct: Callable[..., str]) -> None:
    """Answered by whom, ended how, or unknown."""
    ledger = begin(home, "p-1", "manual__1")
    with pytest.raises(CTError, match="does not wait for a person: it is running"):
        ct("approve", "p", "--run", "p-1", "--reason", "yes")
    answer(home, "p-1", Approval(approved=False, by="bob", at=NOW, reason="too risky"))
    ledger.finish_run("p-1", RunStatus.REFUSED, message="rejected", version=None)
    with pytest.raises(CTError, match="was rejected by bob already: too risky"):
        ct("approve", "p", "--run", "p-1", "--reason", "yes")
    with pytest.raises(CTError, match="There is no run p-2 of p"):
        ct("approve", "p", "--run", "p-2", "--reason", "yes")


def test_an_answer_that_came_second_is_told_so(home: Home, airflow: Airflow, ct: Callable[..., str]) -> None:
    """The first one counts; any other refusal is Airflow's to explain."""
    begin(home, "p-1", "manual__1")
    airflow.waiting, airflow.status = ["manual__1"], 409
    with pytest.raises(CTError, match="Somebody else has answered for run p-1"):
        ct("approve", "p", "--reason", "yes")
    airflow.status = 403
    with pytest.raises(OrchestratorError, match="403"):
        ct("approve", "p", "--reason", "yes")


def test_status_and_runs_say_that_a_run_waits_for_a_person(home: Home, ct: Callable[..., str]) -> None:
    """Since when, what answers it, and what silence means; no longer once it is answered or the run has ended."""
    ledger = begin(home, "p-1", "manual__1")
    assert "waits for a person" not in ct("status") + ct("runs")
    ask(home, "p-1", QUESTION.model_copy(update={"asked_at": datetime.now(timezone.utc)}))
    for shown in (ct("status"), ct("runs", "p")):
        assert re.search(r"waits for a person, asked \d+ s ago: `ct approve p` or `ct reject p`; rejected at", shown)
    assert json.loads(ct("runs", "--json"))[0]["waits_for_person"]["approves_by_default"] is False
    assert json.loads(ct("status", "--json"))["pipelines"][0]["waits_for_person"] is not None
    answer(home, "p-1", Approval(approved=True, by="ada", at=NOW, reason="yes"))
    assert "waits for a person" not in ct("status") + ct("runs")
    ask(home, "p-1", QUESTION)
    ledger.finish_run("p-1", RunStatus.FAILED, message="somebody ended it", version=None)
    assert "waits for a person" not in ct("status") + ct("runs")
    assert json.loads(ct("runs", "--json"))[0]["waits_for_person"] is None
