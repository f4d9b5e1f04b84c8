"""The real serving process with models of the monitor's tests, and one server that plays Airflow and a webhook's receiver."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from ct.contracts import Canary, Check, CheckOutcome, Feature
from ct.monitor.actions import RealActions
from ct.monitor.labels import LabelStore
from ct.monitor.monitor import ModelMonitor, Ports, records_of
from ct.monitor.notify import Outbox, send_with_apprise
from ct.monitor.pairing import Pairing
from ct.monitor.serving_metrics import ServingMetrics
from ct.planes import PROJECT, Plane, python
from ct.rollout import ModelStore, apply, plan_canary, plan_rollout
from ct.serving_command import serving_command, serving_environment
from ct.settings import Settings
from tests.manifests import VERDICT, manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ct.home import Home
    from ct.monitor.counters import Variant
    from ct.monitor_config import MonitorConfig

START_TIMEOUT_S = 180
BRIER = 0.09
"""What the good model scores when the world is as it knows it: labels happen with a chance of x, and x is 0.1 or 0.9."""
ROWS_A_REQUEST = 50


class NoRegistry:
    """No MLflow runs in these tests."""

    def point_champion(self, name: str, version: int) -> None:
        """Nothing to point."""

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Nothing to tag."""


@dataclass
class Receiver:
    """Takes what Apprise and the monitor send."""

    port: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """A server on loopback until the block ends."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/auth/token":
                self._answer(201, {"access_token": "t"})
            elif self.path.endswith("/dagRuns"):
                received.runs.append({"path": self.path, **body})
                self._answer(200, {"dag_run_id": "manual__1"})
            else:
                received.messages.append(body)
                self._answer(200, {})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Not on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Stack:
    """A serving process over a home, and models to stage in it."""

    home: Home
    settings: Settings
    models: Path
    received: Receiver

    def release(self, name: str, first: str, then: str) -> ModelStore:
        """Version 1 of this kind serves and answers; then version 2 serves."""
        store = ModelStore(self.home, name)
        for version, kind in ((1, first), (2, then)):
            saved_model = self.models / kind
            manifest = manifest_of(name, version, saved_model, features=(Feature(name="x", dtype="float32"),))
            brier = Check(name="brier", metric="brier", value=BRIER, threshold=0.2, outcome=CheckOutcome.PASS)
            manifest = manifest.model_copy(update={"verdict": VERDICT.model_copy(update={"checks": (brier,)})})
            predicted = 0.75 if kind == "wrong" else 0.25
            store.stage(saved_model, manifest, {"instances": [{"x": 0.25}], "predictions": [predicted]})
        self.roll_out(store, 1)
        return store

    def roll_out(self, store: ModelStore, version: int) -> None:
        """Let a version serve, once the worker answers with it."""
        plan = plan_rollout(store.name, version, reached=store.reached(), **store.facts(3))
        now = datetime.now(timezone.utc)
        assert apply(plan, store, NoRegistry(), actor="t", reason="t", clock=lambda: now, timeout_s=120).workers == 1

    def ask(self, name: str, requests: int, *, rows: int = 1, seed: int = 0) -> tuple[list[tuple[str, int]], Any]:
        """Ask for predictions; (request id, row) of each row, and its x, float64, (rows,)."""
        x = np.where(np.random.default_rng(seed).random(requests * rows) < 0.5, 0.1, 0.9)
        keys: list[tuple[str, int]] = []
        with httpx.Client(base_url=self.settings.serving_base_url, timeout=30) as client:
            for number in range(requests):
                request_id = f"{name}-{seed}-{number}"
                instances = [{"x": float(value)} for value in x[number * rows : (number + 1) * rows]]
                url = f"/v1/models/{name}:predict"
                answer = client.post(url, json={"instances": instances}, headers={"x-request-id": request_id})
                assert answer.status_code < 400 or answer.status_code >= 500, answer.text
                keys += [(request_id, row) for row in range(rows)]
        return keys, x

    def label(self, name: str, keys: list[tuple[str, int]], labels: Any, folder: Path) -> None:
        """Say what happened."""
        path = folder / f"{name}.csv"
        lines = [f"{key[0]},{key[1]},{int(label)}" for key, label in zip(keys, labels, strict=True)]
        path.write_text("\n".join(["request_id,row,late", *lines]))
        LabelStore(self.home, name).add(path, "late")

    def begin_canary(self, store: ModelStore, version: int) -> None:
        """Let a version answer half of the keys, once the worker holds it."""
        canary = Canary(version=version, share=0.5, key="header:x-request-id")
        plan = plan_canary(store.name, canary, **store.facts(3))
        now = datetime.now(timezone.utc)
        assert apply(plan, store, NoRegistry(), actor="t", reason="t", clock=lambda: now, timeout_s=120).workers == 1

    def monitor(self, name: str, variant: Variant = "champion") -> tuple[ModelMonitor, Pairing]:
        """The monitor with all its real parts, in this process, that looks at labels at each look."""
        records = records_of(self.home, name, variant)
        pairing = Pairing(self.home, name, records, every=timedelta(seconds=1), step_back=lambda _: None)
        outbox = Outbox(self.home, records.folder / "outbox", send_with_apprise)
        ports = Ports(
            ServingMetrics(self.home, self.settings),
            RealActions(self.home, NoRegistry()),
            pairing,
            outbox,
            lambda: datetime.now(timezone.utc),
        )
        return ModelMonitor(self.home, name, ports, variant=variant, labels_every=timedelta(0)), pairing


@contextlib.contextmanager
def stack(home: Home, folder: Path) -> Iterator[Stack]:
    """Everything, until the block ends."""
    models = folder / "models"
    export = Path(__file__).with_name("export_models.py")
    subprocess.run([str(python(Plane.SERVING)), str(export), str(models)], check=True, timeout=START_TIMEOUT_S)
    with receiver() as received, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        settings = Settings(serving_port=port, airflow_port=received.port, prediction_log_share=1.0)
        settings.save(home)
        (home.secrets / "notify.yaml").write_text(f"ops: json://127.0.0.1:{received.port}/\n")
        (home.secrets / "notify.yaml").chmod(0o600)
        with (home.logs / "serving.log").open("wb") as log:
            process = subprocess.Popen(
                serving_command(settings),
                cwd=PROJECT,
                env={**os.environ, **serving_environment(home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            await_true(lambda: _answers(settings), START_TIMEOUT_S)
            yield Stack(home, settings, models, received)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def await_true(condition: Callable[[], object], timeout_s: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)


def _answers(settings: Settings) -> bool:
    try:
        return httpx.get(f"{settings.serving_base_url}/livez").status_code == 200
    except httpx.TransportError:
        return False


def config(**changes: Any) -> MonitorConfig:
    """A configuration that tells ops."""
    from ct.monitor_config import MonitorConfig as Config  # noqa: PLC0415  beside the type above

    return Config.model_validate({"notify": ("ops",), **changes})
