"""TensorFlow Serving's routes over a real `bentoml serve`: formats, errors, swaps under load, refusals."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import pytest
from serving_process import Load, predict, roll_back, roll_out, stage

from ct.errors import RolloutError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from serving_process import Served

    from ct.rollout import ModelStore

FLIPS = 100


def test_it_answers_in_tensorflow_servings_formats(client: httpx.Client, store: ModelStore) -> None:
    """Rows and columns, a pinned version, status and metadata are what TensorFlow Serving's clients expect."""
    assert store.versions()[:3] == (1, 2, 3)
    answer = predict(client)
    assert answer.json() == {"predictions": [0.4]}
    assert answer.headers["ct-model-version"] == "2"
    columns = {"carrier": ["UA", "AA"], "distance": [1.0, 3.0]}
    assert predict(client, inputs=columns).json() == {"outputs": [0.2, 0.6]}
    pinned = predict(client, "/v1/models/trips/versions/1:predict")
    assert (pinned.json(), pinned.headers["ct-model-version"]) == ({"predictions": [0.2]}, "1")
    states = client.get("/v1/models/trips").json()["model_version_status"]
    assert {("2", "AVAILABLE"), ("1", "AVAILABLE")} <= {(state["version"], state["state"]) for state in states}
    labelled = predict(client, "/v1/models/trips/labels/champion:predict")
    assert (labelled.json(), labelled.headers["ct-model-version"]) == ({"predictions": [0.4]}, "2")
    (state,) = client.get("/v1/models/trips/labels/champion").json()["model_version_status"]
    assert state["version"] == "2"
    signature = client.get("/v1/models/trips/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert signature["serving_default"]["inputs"]["distance"]["dtype"] == "DT_FLOAT"
    assert client.get("/readyz").json()["models"] == {"trips": 2}


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


def test_a_hundred_flips_under_load_fail_no_request(
    served: Served, client: httpx.Client, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each answer is of one whole version, each flip is seen at once after it, and a connection sees each flip once."""
    took = []
    with Load(served) as load:
        for flip in range(FLIPS):
            version = 1 + flip % 2
            began = time.perf_counter()
            assert roll_back(store, to=version) == 1
            took.append(time.perf_counter() - began)
            assert predict(client).headers["ct-model-version"] == str(version)
    assert load.errors == []
    assert set(load.seen) == {(200, "1", '{"predictions":[0.2]}'), (200, "2", '{"predictions":[0.4]}')}
    assert all(len(seen) <= FLIPS + 1 for seen in load.versions)
    assert sum(map(len, load.versions)) > FLIPS  # the load did see the flips
    took.sort()
    with capsys.disabled():
        sys.stdout.write(f" [flip p50 {took[50] * 1000:.0f} ms, p99 {took[98] * 1000:.0f} ms] ")


def test_a_version_whose_predictions_differ_is_not_served(
    client: httpx.Client, store: ModelStore, tmp_path: Path
) -> None:
    """Offline it predicted something else: the rollout is reverted, and what served serves on."""
    stage(store, tmp_path, 4, 0.4, claimed=0.35)
    with pytest.raises(RolloutError, match=r"predicts 0\.800000 for example 0, offline it was 0\.700000"):
        roll_out(store, 4)
    assert predict(client).headers["ct-model-version"] == "2"


def test_a_damaged_version_is_not_served(client: httpx.Client, store: ModelStore, tmp_path: Path) -> None:
    """A SavedModel cut short does not load, and what served serves on."""
    stage(store, tmp_path, 5, 0.5)
    damaged = store.version_path(5) / "saved_model" / "saved_model.pb"
    content = damaged.read_bytes()
    damaged.unlink()  # the file is a link into the source folder
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(RolloutError, match=r"version 5 does not load.*Version 2 is still serving"):
        roll_out(store, 5)
    assert predict(client).headers["ct-model-version"] == "2"
    assert json.loads((store.root / "desired.json").read_text())["version"] == 2
