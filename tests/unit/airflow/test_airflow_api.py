"""Airflow's REST API as ct speaks it; the server is a function."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ct.airflow.api import ATTEMPTS, AirflowApi
from ct.airflow.environment import admin_password
from ct.errors import OrchestratorError
from ct.home import Home
from ct.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = ("first", "second")


class Server:
    """Answers like Airflow; remembers what was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.logins: list[dict[str, str]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.expired: set[str] = set()
        self.locked = 0  # so many calls find the database locked

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            self.logins.append(json.loads(request.content))
            return httpx.Response(201, json={"access_token": TOKENS[len(self.logins) - 1]})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not request.url.path.endswith("/health") and (token not in TOKENS or token in self.expired):
            return httpx.Response(401, json={"detail": "Invalid token"})
        if self.locked:
            self.locked -= 1
            return httpx.Response(500, json={"detail": {"reason": "Database error", "orig_error": "hidden"}})
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.path, body))
        answer = self.answers.get(request.url.path)
        if answer is None:
            return httpx.Response(404, json={"detail": "The Dag was not found"})
        return httpx.Response(200, json=answer)


def api_of(server: Server, root: Path) -> AirflowApi:
    """A client of this server."""
    return AirflowApi(Settings(airflow_port=18080), Home(root).create(), httpx.MockTransport(server))


def test_it_logs_in_once_with_the_homes_password(tmp_path: Path) -> None:
    """The token is kept for later calls."""
    server = Server({"/api/v2/dags/p/dagRuns": {"dag_runs": [], "dag_run_id": "manual__1"}})
    with api_of(server, tmp_path) as api:
        assert api.trigger("p", {"force": True}) == "manual__1"
        assert api.dag_runs("p") == ()
    assert server.logins == [{"username": "admin", "password": admin_password(Home(tmp_path))}]
    assert server.asked[0] == ("POST", "/api/v2/dags/p/dagRuns", {"logical_date": None, "conf": {"force": True}})


def test_a_token_that_ran_out_is_renewed(tmp_path: Path) -> None:
    """A CLI that watches a run for a day must not fail."""
    server = Server({"/api/v2/dags/p/dagRuns": {"dag_runs": []}})
    with api_of(server, tmp_path) as api:
        api.dag_runs("p")
        server.expired.add("first")
        assert api.dag_runs("p") == ()
    assert len(server.logins) == 2


def test_a_refusal_says_what_was_asked_and_why_it_was_refused(tmp_path: Path) -> None:
    """Airflow's own reason is in the message."""
    with api_of(Server({}), tmp_path) as api, pytest.raises(OrchestratorError, match="404 The Dag was not found"):
        api.trigger("nowhere")


def test_a_call_that_found_the_database_locked_is_made_again(tmp_path: Path) -> None:
    """A run that is asked for while a node heartbeats is asked for once in the end, and no more than once."""
    server = Server({"/api/v2/dags/p/dagRuns": {"dag_run_id": "manual__1"}})
    with api_of(server, tmp_path) as api:
        server.locked = 2
        assert api.trigger("p") == "manual__1"
    assert len(server.asked) == 1


def test_a_database_that_stays_locked_is_an_error(tmp_path: Path) -> None:
    """After some attempts the person hears of it."""
    server = Server({"/api/v2/dags/p/dagRuns": {"dag_runs": []}})
    with api_of(server, tmp_path) as api:
        api.dag_runs("p")
        server.locked = ATTEMPTS + 1
        with pytest.raises(OrchestratorError, match=r"500 .*Database error") as raised:
            api.trigger("p")
    assert raised.value.retryable
    assert server.locked == 1, "no attempt after the last one"


def test_a_server_that_is_not_there_is_an_error_that_says_how_to_start_it(tmp_path: Path) -> None:
    """Also what it means for serving: nothing."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    api = AirflowApi(Settings(airflow_port=18080), Home(tmp_path).create(), httpx.MockTransport(refuse))
    with api, pytest.raises(OrchestratorError, match="ct up") as raised:
        api.health()
    assert raised.value.retryable


def test_tasks_come_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    """Those that have not begun are last."""
    tasks = [
        {"task_id": "b", "state": None, "try_number": 0, "start_date": None},
        {"task_id": "c", "state": "running", "try_number": 1, "start_date": "2013-01-01T00:00:02Z"},
        {"task_id": "a", "state": "success", "try_number": 1, "start_date": "2013-01-01T00:00:01Z", "more": 1},
    ]
    server = Server({"/api/v2/dags/p/dagRuns/r/taskInstances": {"task_instances": tasks}})
    with api_of(server, tmp_path) as api:
        assert [task.task_id for task in api.task_instances("p", "r")] == ["a", "c", "b"]


def test_a_log_is_text_whether_airflow_sends_text_or_records(tmp_path: Path) -> None:
    """Group markers are for Airflow's UI; an exception's lines are kept."""
    path = "/api/v2/dags/p/dagRuns/r/taskInstances/t/logs/1"
    records = [
        {"event": "::group::Log message source details"},
        {"event": "loading", "timestamp": "2013-01-01T00:00:01.5Z", "level": "info"},
        {"event": "::endgroup::"},
        {"event": "Skipping task.", "reason": "not approved"},
        {"event": "Task failed", "level": "error", "error_detail": [{"exc_type": "E", "exc_value": "why"}]},
        "plain",
    ]
    server = Server({path: {"content": records}})
    with api_of(server, tmp_path) as api:
        assert api.task_log("p", "r", "t", 1) == (
            "2013-01-01T00:00:01 INFO loading\nSkipping task. not approved\nERROR Task failed\n  E: why\nplain"
        )
        server.answers[path] = {"content": "all in one"}
        assert api.task_log("p", "r", "t", 1) == "all in one"


def test_health_says_unknown_for_a_part_that_never_beat(tmp_path: Path) -> None:
    """Without a login: the daemon asks before anything else works."""
    parts = {"scheduler": {"status": "healthy"}, "triggerer": {"status": None}}
    server = Server({"/api/v2/monitor/health": parts, "/execution/health": {"status": "healthy"}})
    with api_of(server, tmp_path) as api:
        assert api.health() == {"scheduler": "healthy", "triggerer": "unknown", "execution_api": "healthy"}
    assert server.logins == []
