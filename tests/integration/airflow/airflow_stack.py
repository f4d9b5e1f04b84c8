"""A real Airflow (API server, scheduler, dag processor, triggerer) whose nodes are answered by a stand-in.

The stand-in is a script where the training plane's interpreter would be. It writes the NodeResult that a file asks
it for; it trains nothing. MLflow is a stand-in too: an HTTP server that accepts every call and remembers it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psutil

from ct.airflow.api import AirflowApi
from ct.airflow.environment import airflow_commands, airflow_environment
from ct.config import PipelineConfig
from ct.contracts import DeployedSpec, NodeSpec, Stage
from ct.errors import OrchestratorError
from ct.home import Home, write_atomically
from ct.settings import Settings
from ct.triggers.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PORTS = range(18080, 18090)
GRACE_S = 10.0
NODES = (
    NodeSpec(id="ExampleGen", stage=Stage.INGEST, upstream=(), after_approval=False),
    NodeSpec(id="Trainer", stage=Stage.TRAIN, upstream=("ExampleGen",), after_approval=False),
    NodeSpec(id="Gate", stage=Stage.EVALUATE, upstream=("Trainer",), after_approval=False),
    NodeSpec(id="Refit", stage=Stage.RELEASE, upstream=("Gate",), after_approval=True),
    NodeSpec(
        id="Register",
        stage=Stage.RELEASE,
        upstream=("Gate", "Refit", "Trainer"),
        after_approval=False,
        runs_when_upstream_skipped=True,
    ),
    NodeSpec(id="Rollout", stage=Stage.RELEASE, upstream=("Register",), after_approval=True),
)
APPROVED = {
    "Gate": {"ok": True, "facts": {"outcome": "approved", "reason": "better than nothing"}},
    "Register": {"ok": True, "facts": {"version": 7}},
}
REFUSED = {**APPROVED, "Gate": {"ok": True, "facts": {"outcome": "refused", "reason": "worse than the champion"}}}
TRAINING_PLANE = """#!{python}
import json, pathlib, sys, time
job = json.loads(pathlib.Path(sys.argv[-1]).read_text())
folder = pathlib.Path(job["request_path"]).parent
answer = json.loads((pathlib.Path(job["home"]) / "answers.json").read_text()).get(job["node_id"], {{"ok": True}})
print("stand-in for", job["node_id"], flush=True)
time.sleep(answer.pop("seconds", 0))
result = {{"node_id": job["node_id"], "seconds": 0.1, "peak_rss_mb": 1.0, **answer}}
(folder / (job["node_id"] + ".result.json")).write_text(json.dumps(result))
sys.exit(0 if result["ok"] else 1)
"""


class _Mlflow(BaseHTTPRequestHandler):
    """Accepts what `ct.registry` asks of MLflow as a run begins and fails."""

    calls: list[tuple[str, dict[str, Any]]]

    def do_GET(self) -> None:
        self._answer({"experiment": {"experiment_id": "1", "name": "p"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append((self.path.rpartition("mlflow/")[2], body))
        info = {"run_id": "m1", "run_uuid": "m1", "experiment_id": "1", "status": "RUNNING", "start_time": 0}
        self._answer({"run": {"info": info, "data": {}}, "run_info": info})

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@dataclass
class Stack:
    """A running Airflow."""

    home: Home
    settings: Settings
    api: AirflowApi
    environment: dict[str, str]
    mlflow_calls: list[tuple[str, dict[str, Any]]]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.home)

    def start(self, component: str) -> None:
        """Start one component in a process group of its own."""
        with (self.home.logs / f"{component}.log").open("ab") as log:
            command = airflow_commands(self.settings)[component]
            self.processes[component] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, component: str) -> None:
        """End a component's process group, with SIGKILL after a grace: LocalExecutor's workers ignore SIGTERM."""
        process = self.processes.pop(component)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(GRACE_S)

    def deploy(self, name: str, *, gate: dict[str, Any] | None = None, **trigger: Any) -> None:
        """Store a spec as `ct deploy` does."""
        config = PipelineConfig.model_validate(
            {
                "name": name,
                "description": f"the pipeline {name}",
                "owner": "team",
                "label": "y",
                "tags": ["tiny"],
                "source": {"pattern": "*.csv"},
                "trigger": {"poll_interval_s": 0.5, "settle_s": 0.5, **trigger},
                "window": {"time_column": "t"},
                "gate": {"threshold": 0.5, **(gate or {})},
                "nodes": {"Trainer": {"retries": 1, "retry_delay_s": 1}},
            }
        )
        spec = DeployedSpec(
            spec_hash="0" * 16,
            pipeline=name,
            config=config.model_dump(mode="json"),
            nodes=NODES,
            readme=f"# {name}",
            deployed_at=datetime.now(timezone.utc),
            code_commit=None,
            requirement_hashes={},
        )
        folder = self.home.deployed / name
        write_atomically(folder / "specs" / spec.spec_hash / "spec.json", spec.model_dump_json())
        (self.home.landing / name).mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "current.json", json.dumps({"spec_hash": spec.spec_hash}))

    def answers(self, answers: dict[str, Any]) -> None:
        """What the nodes answer from now on."""
        write_atomically(self.home.root / "answers.json", json.dumps(answers))

    def land(self, pipeline: str, name: str, text: str) -> float:
        """Rename a file into the pipeline's folder; the time of it."""
        path = self.home.landing / pipeline / f"{name}.csv"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(text)
        unfinished.rename(path)
        return time.time()

    def node_processes(self) -> list[psutil.Process]:
        """The stand-ins that run now."""
        return [process for process in psutil.process_iter() if _runs_a_node(process, self.home)]

    def until(self, what: str, found: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        """Poll until `found` gives something true."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if value := found():
                return value
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not dead, f"{dead} ended; see {self.home.logs}"
            time.sleep(0.1)
        raise AssertionError(f"not within {timeout_s} s: {what}; runs: {self.ledger.runs()}; logs: {self.home.logs}")


@contextlib.contextmanager
def running_stack(root: Path) -> Iterator[Stack]:
    """Airflow with one deployed pipeline, `tiny`, under this folder."""
    home = Home(root / "home").create()
    plane = root / "training" / "bin"
    plane.mkdir(parents=True)
    (plane / "python").write_text(TRAINING_PLANE.format(python=sys.executable))
    (plane / "python").chmod(0o755)
    mlflow = ThreadingHTTPServer(("127.0.0.1", 0), _Mlflow)
    _Mlflow.calls = []
    threading.Thread(target=mlflow.serve_forever, daemon=True).start()
    settings = Settings(airflow_port=_free_port(), mlflow_url=f"http://127.0.0.1:{mlflow.server_address[1]}")
    settings.save(home)
    environment = {**os.environ, **airflow_environment(home, settings), "CT_TRAINING_ENV": str(plane.parent)}
    home.airflow.mkdir()
    subprocess.run(airflow_commands(settings)["migrate"], env=environment, check=True, capture_output=True)
    found = Stack(home, settings, AirflowApi(settings, home), environment, _Mlflow.calls)
    found.deploy("tiny")
    try:
        for component in ("api-server", "scheduler", "dag-processor", "triggerer"):
            found.start(component)
        found.until("healthy", lambda: _healthy(found.api), timeout_s=120)
        yield found
    finally:
        for component in list(found.processes):
            found.stop(component)
        mlflow.shutdown()
        mlflow.server_close()
        found.api.close()
        left = [process for process in psutil.process_iter() if _belongs_to(process, home)]
        for process in left:
            process.kill()
    assert not left, f"left behind: {left}"


def _healthy(api: AirflowApi) -> bool:
    try:
        return set(api.health().values()) == {"healthy"}
    except OrchestratorError:
        return False


def _runs_a_node(process: psutil.Process, home: Home) -> bool:
    try:
        return any(part.startswith(str(home.runs)) and part.endswith(".job.json") for part in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _belongs_to(process: psutil.Process, home: Home) -> bool:
    try:
        return process.environ().get("CT_HOME") == str(home.root)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError(f"no port of {PORTS} is free")
