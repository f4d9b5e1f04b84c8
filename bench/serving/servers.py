"""The servers: ours as `ct up` starts it, and each peer in its best reasonable configuration. docs/benchmarks.md says why."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from bench.errors import BenchError
from bench.serving import bodies
from bench.serving.environments import python_of
from bench.serving.model import MODEL
from bench.serving.places import PEERS_CODE
from bench.serving.process import Launched, clean_environment
from ct.daemon.programs import NO_TRACKING, programs
from ct.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.serving.bodies import Body
    from bench.serving.model import Trained
    from ct.home import Home

OURS = "ct"
HOST = "127.0.0.1"
QUIET = {**NO_TRACKING, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
"""For the peers what `ct up` sets for ours."""
ANSWER_S = 30.0
TOLERANCE = 1e-4
"""Of a probability; servers round it to different lengths."""


@dataclass(frozen=True)
class Server:
    """How one server is started and asked."""

    name: str
    command: tuple[str, ...]
    url: str
    body: Body
    """What one request with some rows looks like."""
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def launch(self, folder: Path, model: Trained) -> Launched:
        """Start it, wait until it answers, and check that what it answers are the model's predictions.

        Raises:
            BenchError: it did not start, or answered something else.
        """
        launched = Launched(self.name, self.command, self.env, self.cwd, folder / f"{self.name}.log")
        try:
            with httpx.Client(timeout=ANSWER_S) as client:
                launched.await_ready(lambda: self._is_ready(client, model))
                self._require_agreement(client, model)
        except BaseException:
            launched.end()
            raise
        return launched

    def _is_ready(self, client: httpx.Client, model: Trained) -> bool:
        try:
            return self._ask(client, model, 0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _require_agreement(self, client: httpx.Client, model: Trained) -> None:
        for row, expected in enumerate(model.examples()["predictions"]):
            answer = self._ask(client, model, row)
            (predicted,) = bodies.predictions(answer.raise_for_status().json())
            if abs(predicted - expected) > TOLERANCE:
                raise BenchError(f"{self.name} predicts {predicted} for row {row}, the model {expected}")

    def _ask(self, client: httpx.Client, model: Trained, row: int) -> httpx.Response:
        return client.post(self.url, json=self.body(model.manifest().features, [model.examples()["instances"][row]]))


def ours(home: Home) -> Server:
    """Ours, with the command that `ct up` runs and the settings that a new home has."""
    serving_port, nothing = _free_ports(2)
    # No MLflow listens there: a rollback under measurement must not find one that runs here by chance.
    settings = Settings(serving_port=serving_port, mlflow_port=nothing)
    settings.save(home)
    program = next(program for program in programs(home, settings, {}) if program.name == "serving")
    url = f"{settings.serving_base_url}/v1/models/{MODEL}:predict"
    return Server(OURS, program.command, url, bodies.instances, program.cwd, program.env)


def peers(model: Trained, folder: Path) -> tuple[Server, ...]:
    """The peers, on the very SavedModel that ours serves. MLflow's model is written into `folder`."""
    env = {
        **QUIET,
        "BENCH_SAVED_MODEL": str(model.saved_model()),
        "PYTHONPATH": str(PEERS_CODE),
        "BENTOML_HOME": str(folder / "bentoml-home"),
    }
    return _bentoml(env), _mlserver(env, folder), _mlflow(env, folder)


def _bentoml(env: Mapping[str, str]) -> Server:
    (port,) = _free_ports(1)
    command = (str(python_of("bentoml")), "-m", "bentoml", "serve", "bentoml_service:Flights")
    address = ("--host", HOST, "--port", str(port))
    return Server("bentoml", (*command, *address), f"http://{HOST}:{port}/predict", bodies.instances, PEERS_CODE, env)


def _mlserver(env: Mapping[str, str], folder: Path) -> Server:
    http_port, grpc_port, metrics_port = _free_ports(3)
    told = {
        "MLSERVER_HOST": HOST,
        "MLSERVER_HTTP_PORT": str(http_port),
        "MLSERVER_GRPC_PORT": str(grpc_port),
        "MLSERVER_METRICS_PORT": str(metrics_port),
        "MLSERVER_METRICS_DIR": str(folder),
    }
    command = (str(python_of("mlserver").with_name("mlserver")), "start", str(PEERS_CODE / "mlserver"))
    url = f"http://{HOST}:{http_port}/v2/models/{MODEL}/infer"
    return Server("mlserver", command, url, bodies.tensors, folder, {**env, **told})


def _mlflow(env: Mapping[str, str], folder: Path) -> Server:
    """MLflow starts `uvicorn` by that name, so its environment comes first on the path."""
    python, saved = python_of("mlflow"), folder / "mlflow-model"
    env = {**env, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    shutil.rmtree(saved, ignore_errors=True)
    done = subprocess.run(
        [str(python), str(PEERS_CODE / "mlflow_model.py"), str(saved)],
        env={**clean_environment(), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"MLflow did not save its model: {done.stderr[-2000:]}")
    (port,) = _free_ports(1)
    command = (str(python.with_name("mlflow")), "models", "serve", "--model-uri", str(saved), "--env-manager", "local")
    address = ("--host", HOST, "--port", str(port), "--workers", "1")
    return Server("mlflow", (*command, *address), f"http://{HOST}:{port}/invocations", bodies.columns, folder, env)


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]
