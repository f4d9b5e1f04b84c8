"""The clients that people have already: each gets the same prediction for the same row, and the version that made it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import bentoml
import numpy as np
import pytest
import tritonclient.http
from serving_process import ROW
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    import httpx
    from serving_process import Served

    from ct.rollout import ModelStore

EXPECTED = pytest.approx(0.4)


def test_curl(served: Served, store: ModelStore) -> None:
    """As the README shows it."""
    assert store.name == "trips"
    command = [
        "curl",
        "-sS",
        "--fail-with-body",
        f"{served.url}/v1/models/trips:predict",
        "-d",
        json.dumps({"instances": [ROW]}),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["predictions"] == [EXPECTED]


def test_a_tensorflow_serving_rest_client(client: httpx.Client) -> None:
    """What such a client does: look at status and metadata, then predict in rows and in columns."""
    (newest, *_) = client.get("/v1/models/trips").json()["model_version_status"]
    assert newest["state"] == "AVAILABLE"
    inputs = client.get("/v1/models/trips/metadata").json()["metadata"]["signature_def"]["signature_def"][
        "serving_default"
    ]["inputs"]
    assert inputs.keys() == ROW.keys()
    body = {"signature_name": "serving_default", "instances": [ROW]}
    assert client.post("/v1/models/trips:predict", json=body).json()["predictions"] == [EXPECTED]
    columns = {name: [value] for name, value in ROW.items()}
    assert client.post("/v1/models/trips/versions/2:predict", json={"inputs": columns}).json()["outputs"] == [EXPECTED]


@pytest.mark.parametrize("binary", [True, False], ids=["binary tensors", "JSON tensors"])
def test_tritonclient(served: Served, store: ModelStore, *, binary: bool) -> None:
    """Health, metadata and inference of the Open Inference Protocol, by Triton's own client."""
    assert store.name == "trips"
    triton = tritonclient.http.InferenceServerClient(served.url.removeprefix("http://"))
    try:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready("trips", "2")
        assert triton.get_server_metadata()["name"] == "ct"
        assert {"name": "trips", "version": "2", "state": "READY", "reason": ""} in triton.get_model_repository_index()
        metadata = triton.get_model_metadata("trips")
        assert metadata["platform"] == "tensorflow_savedmodel"
        inputs = []
        for tensor in metadata["inputs"]:
            data = np.array([ROW[tensor["name"]]], {"BYTES": object, "FP32": np.float32}[tensor["datatype"]])
            inputs.append(tritonclient.http.InferInput(tensor["name"], [1], tensor["datatype"]))
            inputs[-1].set_data_from_numpy(data, binary_data=binary)
        outputs = [tritonclient.http.InferRequestedOutput("probability", binary_data=binary)]
        result = triton.infer("trips", inputs, request_id="r1", outputs=outputs)
        assert result.as_numpy("probability").tolist() == [EXPECTED]
        answer = result.get_response()
        assert (answer["model_version"], answer["id"]) == ("2", "r1")
        without_outputs = triton.infer("trips", inputs)
        assert without_outputs.as_numpy("probability").tolist() == [EXPECTED]
        with pytest.raises(InferenceServerException, match="distance"):
            triton.infer("trips", inputs[:1])
    finally:
        triton.close()


def test_bentomls_client(served: Served, store: ModelStore) -> None:
    """`SyncHTTPClient` finds the API by itself."""
    assert store.name == "trips"
    with bentoml.SyncHTTPClient(served.url) as api:
        assert api.predict(model="trips", instances=[ROW])["predictions"] == [EXPECTED]
        with pytest.raises(bentoml.exceptions.BentoMLException, match="distance"):
            api.predict(model="trips", instances=[{"carrier": "UA"}])
        with pytest.raises(bentoml.exceptions.BentoMLException, match=r"no model .*other.* serves"):
            api.predict(model="other", instances=[ROW])


def test_mlflows_route(client: httpx.Client) -> None:
    """`/invocations` in each of its formats; with one model it needs no name."""
    split = {"columns": list(ROW), "data": [list(ROW.values())]}
    for body in ({"dataframe_split": split}, {"dataframe_records": [ROW]}, {"instances": [ROW]}, {"inputs": [ROW]}):
        assert client.post("/invocations", json=body).json()["predictions"] == [EXPECTED]
    text = "carrier,distance\nUA,2.0\n"
    answer = client.post("/invocations?model=trips", content=text, headers={"content-type": "text/csv"})
    assert answer.json()["predictions"] == [EXPECTED]
    assert answer.headers["ct-model-version"] == "2"
    assert client.get("/ping").status_code == 200
    wrong = client.post("/invocations", json={"instances": [{"carrier": "UA"}]})
    assert (wrong.status_code, wrong.json()["error_code"]) == (400, "BAD_REQUEST")
    assert "distance" in wrong.json()["message"]
    assert (
        client.post("/invocations?model=other", json={"instances": [ROW]}).json()["error_code"]
        == "RESOURCE_DOES_NOT_EXIST"
    )
