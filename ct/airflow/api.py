"""Airflow's REST API behind the few calls that ct makes. Imports no Airflow."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from ct.airflow.environment import ADMIN, admin_password
from ct.errors import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self

    from ct.home import Home
    from ct.settings import Settings

TIMEOUT_S = 20.0
PAGE = 100
APPROVAL = "Approval"
"""The task that asks a person."""
APPROVE, REJECT = "Approve", "Reject"
"""Its options, as Airflow's own approvals call them."""
AWAITING = ("awaiting_input", "deferred")
ATTEMPTS = 3
"""Of a call that Airflow's database did not take. Airflow writes its audit log on the API server's event loop (3.3.2,
`action_logging`); when a heartbeat's transaction waits for that loop at this moment, SQLite ends the wait after 5 s and
the call with it, before anything was done. The next attempt finds the database free."""


class _Answer(BaseModel):
    """Part of an answer of Airflow; keys that ct does not use are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class DagRun(_Answer):
    """A run of a DAG."""

    run_id: str = Field(alias="dag_run_id")
    dag_id: str
    run_type: str
    state: str = Field(description="queued, running, success or failed.")
    run_after: datetime
    start_date: datetime | None = None
    end_date: datetime | None = None


class TaskInstance(_Answer):
    """A task of a run."""

    task_id: str
    state: str | None = Field(description="None before it is scheduled; success, failed, skipped, ...")
    try_number: int
    start_date: datetime | None = None
    end_date: datetime | None = None


class Waiting(_Answer):
    """A task that waits for a person's answer."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    subject: str
    created_at: datetime


class AirflowApi:
    """A client that logs in as the home's admin when it first needs to. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings, home: Home, transport: httpx.BaseTransport | None = None) -> None:
        self._home = home
        self._url = settings.airflow_base_url
        # Proxies of the environment are for the internet, not for a server on this machine.
        self._client = httpx.Client(base_url=self._url, timeout=TIMEOUT_S, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Ask for a run. With `{"force": true}` it retrains on the current window even when nothing is new.

        Returns:
            The Airflow run's id.

        Raises:
            OrchestratorError: Airflow refused, knows no such DAG, or did not answer.
        """
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def dag_runs(self, dag_id: str, limit: int = 20) -> tuple[DagRun, ...]:
        """Runs of a DAG, newest first.

        Raises:
            OrchestratorError: Airflow refused, knows no such DAG, or did not answer.
        """
        query = {"limit": limit, "order_by": "-run_after"}
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=query)["dag_runs"]
        return tuple(DagRun.model_validate(run) for run in found)

    def task_instances(self, dag_id: str, run_id: str) -> tuple[TaskInstance, ...]:
        """The tasks of a run, in the order in which they began; those that have not come last.

        Raises:
            OrchestratorError: Airflow refused, knows no such run, or did not answer.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found = self._call("GET", path, params={"limit": PAGE})["task_instances"]
        tasks = [TaskInstance.model_validate(task) for task in found]
        return tuple(sorted(tasks, key=lambda task: (task.start_date is None, task.start_date or 0)))

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
        """The log of one try, a line a record.

        Raises:
            OrchestratorError: Airflow refused, knows no such task, or did not answer.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self._call("GET", path, params={"full_content": True})["content"]
        return "\n".join(_lines(content))

    def clear(self, dag_id: str, run_id: str, task_ids: Iterable[str], *, downstream: bool = True) -> int:
        """Run tasks of a run again, with all that follows them. Returns how many tasks were cleared.

        Raises:
            OrchestratorError: Airflow refused, knows no such run, or did not answer.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
            "include_downstream": downstream,
        }
        return int(self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)["total_entries"])

    def waiting(self, dag_id: str) -> tuple[Waiting, ...]:
        """The questions of a DAG that wait for a person, oldest first.

        Raises:
            OrchestratorError: Airflow refused, knows no such DAG, or did not answer.
        """
        query = {
            "limit": PAGE,
            "response_received": False,
            "task_id": APPROVAL,
            "state": AWAITING,
            "order_by": "created_at",
        }
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/~/hitlDetails", params=query)["hitl_details"]
        return tuple(Waiting.model_validate({**_place(question["task_instance"]), **question}) for question in found)

    def answer(self, waiting: Waiting, *, approve: bool, reason: str, by: str) -> None:
        """Answer a question; the run goes on at once.

        Raises:
            OrchestratorError: somebody has answered already (`facts["status"]` is 409), or Airflow refused or did not answer.
        """
        body = {"chosen_options": [APPROVE if approve else REJECT], "params_input": {"reason": reason, "by": by}}
        task = f"/api/v2/dags/{waiting.dag_id}/dagRuns/{waiting.run_id}/taskInstances/{waiting.task_id}"
        self._call("PATCH", f"{task}/{waiting.map_index}/hitlDetails", json=body)

    def backfill(self, dag_id: str, begin: datetime, end: datetime) -> int:
        """Run a scheduled DAG for past dates, one run at a time. Returns the backfill's id.

        Raises:
            OrchestratorError: the DAG has no schedule, or Airflow refused or did not answer.
        """
        body = {
            "dag_id": dag_id,
            "from_date": begin.isoformat(),
            "to_date": end.isoformat(),
            "max_active_runs": 1,
            "reprocess_behavior": "completed",
        }
        return int(self._call("POST", "/api/v2/backfills", json=body)["id"])

    def import_errors(self) -> tuple[str, ...]:
        """What Airflow could not parse, such as the spec of one pipeline.

        Raises:
            OrchestratorError: Airflow refused or did not answer.
        """
        found = self._call("GET", "/api/v2/importErrors", params={"limit": PAGE})["import_errors"]
        return tuple(str(error["stack_trace"]) for error in found)

    def health(self) -> dict[str, str]:
        """Component -> `healthy`, `unhealthy` or `unknown`; `execution_api` is what tasks talk to.

        The first call after a start takes some seconds: it makes the execution API ready, which the first task would
        otherwise wait for.

        Raises:
            OrchestratorError: the API server did not answer.
        """
        parts = self._send("GET", "/api/v2/monitor/health").json()
        parts["execution_api"] = self._send("GET", "/execution/health").json()
        return {name: str((part or {}).get("status") or "unknown") for name, part in parts.items()}

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One call as admin. A token that has run out is renewed once."""
        if "Authorization" not in self._client.headers:
            self._log_in()
        response = self._send(method, path, accept=(httpx.codes.UNAUTHORIZED,), **options)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            response = self._send(method, path, **options)
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    def _log_in(self) -> None:
        self._client.headers.pop("Authorization", None)
        login = {"username": ADMIN, "password": admin_password(self._home)}
        token = self._send("POST", "/auth/token", json=login).json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def _send(self, method: str, path: str, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        for _ in range(ATTEMPTS):
            try:
                response = self._client.request(method, path, headers={"Accept": "application/json"}, **options)
            except httpx.HTTPError as error:
                raise OrchestratorError(
                    f"Airflow at {self._url} did not answer: {error}. What serves is not affected. "
                    "See `ct status`; start it with `ct up`.",
                    url=self._url,
                ) from error
            if not _is_rolled_back(response):
                break
        if response.is_success or response.status_code in accept:
            return response
        raise OrchestratorError(
            f"Airflow at {self._url} refused {method} {path}: {response.status_code} {_detail(response)}. "
            "Nothing was changed. See `ct status`.",
            url=self._url,
            path=path,
            status=response.status_code,
        )


def _place(task: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dag_id": task["dag_id"],
        "run_id": task["dag_run_id"],
        "task_id": task["task_id"],
        "map_index": task["map_index"],
    }


def _is_rolled_back(response: httpx.Response) -> bool:
    """Whether Airflow's database ended the call's transaction: nothing of it is stored."""
    return response.status_code == httpx.codes.INTERNAL_SERVER_ERROR and "Database error" in _detail(response)


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
    return str(detail)


def _lines(content: Any) -> Iterable[str]:
    """A log's records as lines: Airflow answers with a text, or with a list of records."""
    if isinstance(content, str):
        yield content
        return
    for record in content:
        if isinstance(record, str):
            yield record
            continue
        event = str(record.get("event", ""))
        if event.startswith("::"):  # group markers, for Airflow's UI
            continue
        at = str(record.get("timestamp") or "")[:19]
        level = str(record.get("level") or "").upper()
        reason = str(record.get("reason") or "")  # why a task is skipped
        yield " ".join(part for part in (at, level, event, reason) if part)
        yield from (f"  {error['exc_type']}: {error['exc_value']}" for error in record.get("error_detail") or ())
