"""The OpenAPI description: true, usable, and a fuzzer that follows it finds no 5xx. Metrics and logs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving_process import ROW, await_true, predict

if TYPE_CHECKING:
    import httpx
    from serving_process import Served

    from ct.rollout import ModelStore

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_every_example_works_when_pasted(client: httpx.Client) -> None:
    """Each prediction route has one, of the model's real features; whatever is there to read can be read."""
    document = client.get("/openapi.json").json()
    tried: Counter[str] = Counter()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            real = path
            for parameter in operation.get("parameters", ()):
                real = real.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                for example in content.get("examples", {}).values():
                    body = example["value"] if media_type == "text/csv" else json.dumps(example["value"])
                    answer = client.request(method, real, content=body, headers={"content-type": media_type})
                    assert answer.status_code == 200, (real, answer.text)
                    tried[path] += 1
            if method == "get":
                assert client.get(real).status_code == 200, real
    v1, v2 = "/v1/models/trips", "/v2/models/trips"
    of_tensorflow = (f"{v1}:predict", f"{v1}/versions/{{version}}:predict", f"{v1}/labels/{{label}}:predict")
    assert tried == {
        **dict.fromkeys(of_tensorflow, 2),
        **dict.fromkeys((f"{v2}/infer", f"{v2}/versions/{{version}}/infer", "/predict"), 1),
        "/invocations": 4,
    }
    row = document["components"]["schemas"]["trips_row"]
    assert row["properties"].keys() == ROW.keys()
    assert row["required"] == list(ROW)
    page = client.get("/docs")
    assert "swagger-ui" in page.text
    for part in ("/static_content/swagger-ui-bundle.js", "/static_content/swagger-ui.css"):
        assert client.get(part).status_code == 200
    assert "googletagmanager" not in client.get("/").text


def test_schemathesis_finds_no_server_error(served: Served, store: ModelStore, tmp_path: Path) -> None:
    """Requests that follow the description and requests that break it, none of which may get 5xx or an undescribed status."""
    assert store.name == "trips"
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{served.url}/openapi.json", "--max-examples", "60", "--seed", "1"),
        *(
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ),
        *("--phases", "examples,coverage,fuzzing"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_metrics_tell_requests_errors_latency_batches_and_predictions(client: httpx.Client) -> None:
    """By model and version, in Prometheus' text format, with BentoML's own beside them."""
    assert predict(client).status_code == 200
    assert predict(client, instances=[{"carrier": "UA"}]).status_code == 400
    text = client.get("/metrics").text
    labels = 'model="trips",variant="champion",version="2"'
    for line in (
        'ct_requests_total{code="200",model="trips",protocol="tensorflow_serving",variant="champion",version="2"}',
        'ct_requests_total{code="400",model="trips",protocol="tensorflow_serving",variant="champion",version="2"}',
        f'ct_request_seconds_bucket{{le="0.1",{labels}}}',
        'ct_predictions_total{model="trips",tenth="4",variant="champion",version="2"}',
        'ct_batch_rows_bucket{le="1.0",model="trips",version="2"}',
        'ct_batch_seconds_count{model="trips",version="2"}',
        'ct_waiting_rows{model="trips",version="2"}',
        'ct_serving_version{model="trips"} 2.0',
    ):
        assert line in text, line


def test_a_request_can_be_found_in_the_access_log(served: Served, client: httpx.Client) -> None:
    """By the id that the client gave, or by the one it got; with the trace it belongs to."""
    headers = {"x-request-id": "mine-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    given = client.post("/v1/models/trips:predict", json={"instances": [ROW, ROW]}, headers=headers)
    assert given.headers["x-request-id"] == "mine-1"
    made = predict(client).headers["x-request-id"]
    assert made != predict(client).headers["x-request-id"]

    def entries() -> dict[str, dict[str, object]]:
        lines = [line for path in served.home.logs.glob("access-*.jsonl") for line in path.read_text().splitlines()]
        return {entry["request_id"]: entry for entry in map(json.loads, lines)}

    await_true(lambda: {"mine-1", made} <= entries().keys(), 10)
    entry = entries()["mine-1"]
    assert (entry["trace_id"], entry["rows"], entry["status"]) == (TRACE, 2, 200)
    assert (entry["model"], entry["version"], entry["variant"]) == ("trips", 2, "champion")
    assert entry["protocol"] == "tensorflow_serving"


@pytest.mark.parametrize("value", ["a b", "a\tb", "x" * 500, "\xff", ""])
def test_an_unusable_request_id_is_replaced(client: httpx.Client, value: str) -> None:
    """What could break a log line or a header does not come back; the request is answered, under an id of ours."""
    headers = {"x-request-id": value.encode("latin-1")}
    answer = client.post("/v1/models/trips:predict", json={"instances": [ROW]}, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 200
    assert re.fullmatch("[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])


def test_a_request_whose_head_is_not_http_is_refused(served: Served) -> None:
    """A control character in a header ends the connection with 400, and reaches no log."""
    with socket.create_connection(("127.0.0.1", served.port), 20) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: a\x01b\r\n\r\n")
        assert connection.makefile("rb").readline().split()[1] == b"400"
