"""A real `bentoml serve` process over a model store: formats, swaps under load, refusals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import tensorflow as tf

from ct.contracts import Feature, Outcome, Verdict, VersionManifest
from ct.errors import RolloutError
from ct.home import Home
from ct.rollout import ModelStore, apply, plan_rollback, plan_rollout, tree_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_TIMEOUT_S = 90
SWAPS = 20
FEATURES = (Feature(name="carrier", dtype="string"), Feature(name="distance", dtype="float32"))
ROW = {"carrier": "UA", "distance": 2.0}


class _NoRegistry:
    def point_champion(self, name: str, version: int) -> None:
        """There is no registry in these tests."""


def export(folder: Path, factor: float) -> Path:
    """A model that predicts `distance * factor`, with a look at the text too."""
    module = tf.Module()
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
        return {"probability": features["distance"] * module.factor * known}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict})
    return folder


def stage(store: ModelStore, folder: Path, version: int, factor: float, *, claimed: float | None = None) -> None:
    """Put a version into the store, with offline predictions of `claimed` times the distance."""
    saved_model = export(folder / f"model{version}", factor)
    manifest = VersionManifest(
        name=store.name,
        version=version,
        created_at=datetime.now(timezone.utc),
        run_id="r",
        mlflow_run_id=None,
        features=FEATURES,
        label="late",
        spans=(),
        refit=False,
        verdict=Verdict(
            outcome=Outcome.APPROVED, reason="", checks=(), champion_version=None, span="s", rows=1, holdout=True
        ),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
    )
    offline = ROW["distance"] * (factor if claimed is None else claimed)  # type: ignore[operator]
    store.stage(saved_model, manifest, {"instances": [ROW], "predictions": [offline]})


def roll_out(store: ModelStore, version: int) -> int:
    """Roll a version out; how many workers answered."""
    plan = plan_rollout(
        store.name, version, desired=store.desired(), history=store.history(), versions=store.versions(), keep=3
    )
    return apply(plan, store, _NoRegistry(), actor="t", reason="t", clock=lambda: datetime.now(timezone.utc)).workers


def roll_back(store: ModelStore, to: int | None = None) -> int:
    """Roll back; how many workers answered."""
    plan = plan_rollback(
        store.name, to, desired=store.desired(), history=store.history(), versions=store.versions(), keep=3
    )
    return apply(plan, store, _NoRegistry(), actor="t", reason="t", clock=lambda: datetime.now(timezone.utc)).workers


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home for this module's server."""
    return Home(tmp_path_factory.mktemp("serving") / "home").create()


@pytest.fixture(scope="module")
def client(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A serving process that started without any model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "serving.service:Serving"]
    environment = {**os.environ, "CT_HOME": str(home.root), "BENTOML_DO_NOT_TRACK": "True"}
    log = (home.logs / "serving.log").open("wb")
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        cwd=tmp_path_factory.mktemp("cwd"),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            await_true(lambda: answers(client), START_TIMEOUT_S)
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


@pytest.fixture(scope="module")
def store(home: Home, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Versions 1 (x1) and 2 (x2), rolled out one after the other while the server runs."""
    store = ModelStore(home, "trips")
    folder = tmp_path_factory.mktemp("models")
    assert client.get("/readyz").status_code == 503
    assert client.get("/v1/models/trips").status_code == 404
    for version in (1, 2):
        stage(store, folder, version, float(version))
        assert roll_out(store, version) == 1
    return store


def await_true(condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
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


def test_it_answers_in_tensorflow_servings_formats(client: httpx.Client, store: ModelStore) -> None:
    """Rows and columns, a pinned version, status and metadata are what TensorFlow Serving's clients expect."""
    assert store.versions() == (1, 2)
    answer = predict(client)
    assert answer.json() == {"predictions": [4.0]}
    assert answer.headers["ct-model-version"] == "2"
    columns = {"carrier": ["UA", "AA"], "distance": [1.0, 3.0]}
    assert predict(client, inputs=columns).json() == {"outputs": [2.0, 6.0]}
    pinned = predict(client, "/v1/models/trips/versions/1:predict")
    assert (pinned.json(), pinned.headers["ct-model-version"]) == ({"predictions": [2.0]}, "1")
    states = client.get("/v1/models/trips").json()["model_version_status"]
    assert [(state["version"], state["state"]) for state in states] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    signature = client.get("/v1/models/trips/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert signature["serving_default"]["inputs"]["distance"]["dtype"] == "DT_FLOAT"
    assert client.get("/readyz").json() == {"models": {"trips": 2}}


def test_bentomls_own_route_answers_the_same(client: httpx.Client, store: ModelStore) -> None:
    """BentoML's API predicts with the same version and says which."""
    assert store.versions()
    answer = client.post("/predict", json={"model": "trips", "instances": [ROW]})
    assert answer.json() == {"predictions": [4.0]}
    assert answer.headers["ct-model-version"] == "2"
    wrong = client.post("/predict", json={"model": "trips", "instances": [{"carrier": "UA"}]})
    assert wrong.status_code == 400
    assert "distance" in wrong.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/v1/models/trips:predict", b'{"instances": [{"carrier": "UA"}]}', 400, 'lacks \\"distance\\"'),
        ("POST", "/v1/models/trips:predict", b"{", 400, "not JSON"),
        ("POST", "/v1/models/other:predict", b"{}", 404, 'no model \\"other\\"'),
        ("POST", "/v1/models/trips/versions/9:predict", b"{}", 404, "version 9"),
        ("GET", "/v1/models/trips:predict", b"", 405, "takes POST"),
        ("GET", "/v1/nothing", b"", 404, "no such path"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(
    client: httpx.Client, store: ModelStore, method: str, path: str, body: bytes, status: int, message: str
) -> None:
    """The status is right and the body is a JSON error that names the problem."""
    assert store.versions()
    answer = client.request(method, path, content=body)
    assert answer.status_code == status
    assert message in answer.text
    assert set(answer.json()) == {"error"}


def test_no_request_fails_while_versions_swap(client: httpx.Client, store: ModelStore) -> None:
    """Rollbacks back and forth under load: each answer is of one whole version, and each swap is seen at once after it."""
    stopped = threading.Event()
    seen: Counter[tuple[int, str, str]] = Counter()

    def load() -> None:
        with httpx.Client(base_url=client.base_url, timeout=20) as mine:
            while not stopped.is_set():
                answer = predict(mine)
                seen[(answer.status_code, answer.headers.get("ct-model-version", ""), answer.text)] += 1

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(SWAPS // 2):
            for version in (1, 2):
                assert roll_back(store, to=version) == 1
                assert predict(client).headers["ct-model-version"] == str(version)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {(200, "1", '{"predictions":[2.0]}'), (200, "2", '{"predictions":[4.0]}')}


def test_a_version_whose_predictions_differ_is_not_served(
    client: httpx.Client, store: ModelStore, tmp_path: Path
) -> None:
    """Offline it predicted something else: the rollout is reverted, and what served serves on."""
    stage(store, tmp_path, 3, 3.0, claimed=3.5)
    with pytest.raises(RolloutError, match=r"predicts 6\.000000 for example 0, offline it was 7\.000000"):
        roll_out(store, 3)
    assert predict(client).headers["ct-model-version"] == "2"


def test_a_damaged_version_is_not_served(client: httpx.Client, store: ModelStore, tmp_path: Path) -> None:
    """A SavedModel cut short does not load, and what served serves on."""
    stage(store, tmp_path, 4, 4.0)
    damaged = store.version_path(4) / "saved_model" / "saved_model.pb"
    content = damaged.read_bytes()
    damaged.unlink()  # the file is a link into the source folder
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(RolloutError, match=r"version 4 does not load.*Version 2 is still serving"):
        roll_out(store, 4)
    assert predict(client).headers["ct-model-version"] == "2"
    assert json.loads((store.root / "desired.json").read_text())["version"] == 2
