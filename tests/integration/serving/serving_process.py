"""A real `bentoml serve` process over a model store, models for it, and changes of what serves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import httpx
import tensorflow as tf

from ct.contracts import Canary, Feature
from ct.rollout import (
    ModelStore,
    apply,
    plan_canary,
    plan_end,
    plan_rollback,
    plan_rollout,
    plan_shadow,
)
from ct.serving_command import serving_command
from ct.settings import Settings
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from ct.home import Home
    from ct.rollout import Plan

START_TIMEOUT_S = 90
KEEP = 3
FEATURES = (Feature(name="carrier", dtype="string"), Feature(name="distance", dtype="float32"))
ROW: dict[str, Any] = {"carrier": "UA", "distance": 2.0}


class _NoRegistry:
    def point_champion(self, name: str, version: int) -> None:
        """There is no registry in these tests."""

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Nor tags."""


def export(folder: Path, factor: float, *, loops: int = 0, ballast_mb: int = 0) -> Path:
    """A model that predicts `distance * factor`, with a look at the text too; a negative distance it cannot take.

    A loop takes about 3 us. The ballast is a variable that nothing reads.
    """
    module = tf.Module()
    module.ballast = tf.Variable(tf.zeros([ballast_mb, 1 << 18]))
    module.factor = tf.Variable(factor)

    @tf.function(
        input_signature=[
            {
                "carrier": tf.TensorSpec([None], tf.string, name="carrier"),
                "distance": tf.TensorSpec([None], tf.float32, name="distance"),
            }
        ]
    )
    def predict(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        known = tf.cast(tf.strings.length(features["carrier"]) > 0, tf.float32)
        checked = tf.debugging.assert_non_negative(features["distance"], "distance must not be negative")
        steps = tf.constant(loops, tf.int64)
        waited = tf.while_loop(lambda step: step < steps, lambda step: step + 1, [tf.constant(0, tf.int64)])[0]
        with tf.control_dependencies([checked, waited]):
            return {"probability": features["distance"] * module.factor * known}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict})
    return folder


def stage(
    store: ModelStore,
    folder: Path,
    version: int,
    factor: float,
    *,
    claimed: float | None = None,
    features: tuple[Feature, ...] = FEATURES,
    loops: int = 0,
    ballast_mb: int = 0,
) -> None:
    """Put a version into the store, with offline predictions of `claimed` times the distance."""
    saved_model = export(folder / f"model{version}", factor, loops=loops, ballast_mb=ballast_mb)
    judged_against = None if version == 1 else 1  # in these tests version 1 serves first
    manifest = manifest_of(store.name, version, saved_model, features=features, judged_against=judged_against)
    offline = ROW["distance"] * (factor if claimed is None else claimed)
    store.stage(saved_model, manifest, {"instances": [ROW], "predictions": [offline]})


def change(store: ModelStore, plan: Plan) -> int:
    """Apply a plan; how many workers answered."""
    return apply(plan, store, _NoRegistry(), actor="t", reason="t", clock=lambda: datetime.now(timezone.utc)).workers


def roll_out(store: ModelStore, version: int) -> int:
    """Roll a version out."""
    return change(store, plan_rollout(store.name, version, reached=store.reached(), **store.facts(KEEP)))


def roll_back(store: ModelStore, to: int | None = None) -> int:
    """Roll back, as a drill."""
    return change(store, plan_rollback(store.name, to, quarantine=False, **store.facts(KEEP)))


def begin_canary(store: ModelStore, version: int, share: float, key: str) -> int:
    """Let a version answer a share."""
    return change(store, plan_canary(store.name, Canary(version=version, share=share, key=key), **store.facts(KEEP)))


def begin_shadow(store: ModelStore, version: int) -> int:
    """Let a version predict unseen."""
    return change(store, plan_shadow(store.name, version, **store.facts(KEEP)))


def end(store: ModelStore) -> int:
    """End canary and shadow."""
    return change(store, plan_end(store.name, **store.facts(KEEP)))


@dataclass
class Served:
    """A serving process and its address."""

    home: Home
    process: subprocess.Popen[bytes]
    url: str
    verify: ssl.SSLContext | bool = True

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> httpx.Client:
        """A client with connections of its own."""
        return httpx.Client(base_url=self.url, timeout=20, verify=self.verify, **options)

    def worker_pids(self) -> list[int]:
        """The processes that answer."""
        return sorted(int(path.stem) for path in (self.home.models / ".workers").glob("[0-9]*.json"))

    def log(self) -> str:
        """What it has written."""
        return (self.home.logs / "serving.log").read_text(errors="replace")


@contextlib.contextmanager
def serving(
    home: Home,
    cwd: Path,
    *,
    tls: tuple[Path, Path] | None = None,
    variables: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Run `bentoml serve` until the block ends, with these settings and environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    verify: ssl.SSLContext | bool = True
    if tls:
        settings |= {"serving_tls_certificate": tls[0], "serving_tls_key": tls[1]}
        verify = ssl.create_default_context(cafile=str(tls[0]))
    environment = {**os.environ, "CT_HOME": str(home.root), "BENTOML_DO_NOT_TRACK": "True", "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment["BENTOML_HOME"] = str(home.run / "bentoml")
    environment |= variables or {}
    environment |= {f"CT_{name.upper()}": str(value) for name, value in settings.items()}
    _, *arguments = serving_command(Settings(serving_port=port, **settings))
    command = [sys.executable, *arguments]
    with (home.logs / "serving.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=cwd, stdout=log, stderr=log, start_new_session=True)
        served = Served(home, process, f"{'https' if tls else 'http'}://127.0.0.1:{port}", verify)
        try:
            with served.client() as client:
                await_true(lambda: answers(client), START_TIMEOUT_S, served)
            yield served
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def await_true(condition: Callable[[], bool], timeout_s: float, served: Served | None = None) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline or (served and served.process.poll() is not None):
            raise AssertionError("the condition did not come true" + (f"; {served.log()[-3000:]}" if served else ""))
        time.sleep(0.05)


def answers(client: httpx.Client) -> bool:
    """Whether the server is up."""
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def predict(client: httpx.Client, path: str = "/v1/models/trips:predict", **body: Any) -> httpx.Response:
    """Ask for a prediction of ROW, or of a body."""
    return client.post(path, json=body or {"instances": [ROW]})


@dataclass
class Load:
    """Threads that ask for predictions, each on a connection of its own, until the block ends."""

    served: Served
    threads: int = 4
    headers: dict[str, str] = field(default_factory=dict)
    seen: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    """(status, version, body) -> how many."""
    errors: list[str] = field(default_factory=list)
    versions: list[list[str]] = field(default_factory=list)
    """A connection's versions as they changed: `1 2 1` has two changes."""

    def __enter__(self) -> Self:
        self._stopped = threading.Event()
        self.versions = [[] for _ in range(self.threads)]
        self._running = [threading.Thread(target=self._run, args=(number,)) for number in range(self.threads)]
        for thread in self._running:
            thread.start()
        await_true(lambda: all(self.versions) or bool(self.errors), 20)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        for thread in self._running:
            thread.join()

    def _run(self, number: int) -> None:
        mine = self.versions[number]
        with self.served.client(headers=self.headers) as client:
            while not self._stopped.is_set():
                try:
                    answer = predict(client)
                except httpx.HTTPError as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                    continue
                version = answer.headers.get("ct-model-version", "")
                self.seen[answer.status_code, version, answer.text] += 1
                if mine[-1:] != [version]:
                    mine.append(version)
