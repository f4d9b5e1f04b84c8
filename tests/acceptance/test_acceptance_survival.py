"""One running stack: bad data, kill -9 of every process, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from ct.daemon import sweep
from ct.home import Home
from demo.story import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)

PROCESSES = (
    "airflow-api-server",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
    "mlflow",
    "worker",
    "serving",
    "monitor",
    "sentinel",
)
HEAL_TIMEOUT_S = 180
RUN_TIMEOUT_S = 400


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, small_flights: Path) -> Iterator[Stage]:
    """`ct up` with flights deployed and a good month at hand."""
    stage = Stage(Home(tmp_path_factory.mktemp("survival") / "home"))
    try:
        stage.ct("up", "--detach")
        stage.ct("deploy", str(small_flights))
        yield stage
    finally:
        stage.ct("down")


@pytest.fixture(scope="module")
def month(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole January of 4,000 rows, not landed yet."""
    folder = tmp_path_factory.mktemp("spans")
    stage.ct("sample", "flights", "--to", str(folder), "--months", "1", "--rows", "4000")
    return folder / "2013-01.parquet"


def await_true(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for a condition, and fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.5)


def land(stage: Stage, name: str, content: bytes) -> None:
    """Put a file into the landing folder in one step."""
    landing = stage.home.landing / "flights"
    (landing / f".{name}").write_bytes(content)
    (landing / f".{name}").rename(landing / name)


def flights(stage: Stage) -> dict[str, Any]:
    """What `ct status` says of the pipeline."""
    found: dict[str, Any] = stage.ct_json("status")["pipelines"][0]
    return found


def test_every_process_is_healthy_and_on_loopback(stage: Stage) -> None:
    """`ct status --json` says so of each, and nothing listens beyond this machine."""
    status = stage.ct_json("status")
    assert status["healthy"]
    assert {process["name"] for process in status["processes"]} == set(PROCESSES)
    ours = sweep.marked({sweep.INSTANCE: stage.home.instance})
    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address for address in listening if not address.startswith("127.") and address != "::1"} == set()


def test_a_bad_span_is_refused_and_the_next_good_one_is_served(stage: Stage, month: Path) -> None:
    """The reason stands in `ct status`, nothing is trained on it, and a good span becomes a served version by itself."""
    good = month.read_bytes()
    land(stage, "2012-12.parquet", good[: len(good) // 2] + b"PAR1")

    def refused() -> bool:
        return any(record["state"] == "refused" for record in flights(stage)["spans"])

    await_true(refused, RUN_TIMEOUT_S, "the damaged span is refused")
    record = flights(stage)["spans"][0]
    assert "Parquet" in record["reason"]
    assert stage.ct_json("models") == []
    land(stage, month.name, good)
    await_true(lambda: flights(stage)["serving"] == 1, RUN_TIMEOUT_S, "version 1 serves")
    run = stage.ct_json("runs", "flights")[0]
    assert run["window"] == ["2013-01"]


def test_curl_gets_a_prediction_in_tensorflow_servings_format(stage: Stage) -> None:
    """One row in, one probability out, with the version in a header."""
    examples = json.loads((stage.home.models / "flights" / "versions" / "1" / "examples.json").read_text())
    answer = httpx.post(
        f"{stage.serving}/v1/models/flights:predict", json={"instances": examples["instances"][:1]}, timeout=20
    )
    assert answer.json()["predictions"] == pytest.approx(examples["predictions"][:1], abs=1e-5)
    assert answer.headers["ct-model-version"] == "1"


def test_the_same_bytes_are_not_trained_on_twice(stage: Stage, month: Path) -> None:
    """Landing the span again, and under another name, is a duplicate event and no run."""
    before = [run["run_id"] for run in stage.ct_json("runs", "flights") if run["spans"]]
    content = (stage.home.landing / "flights" / month.name).read_bytes()
    land(stage, month.name, content)
    land(stage, "2013-01-again.parquet", content)
    assert stage.ct_json("status")["healthy"]
    await_true(lambda: duplicates(stage) >= 1, 60, "the landing is recorded as a duplicate")
    assert [run["run_id"] for run in stage.ct_json("runs", "flights") if run["spans"]] == before


def duplicates(stage: Stage) -> int:
    """How many landings the ledger holds as duplicates."""
    from ct.triggers.ledger import Ledger  # noqa: PLC0415

    return sum(event.outcome.value == "duplicate" for event in Ledger.open(stage.home).events("flights"))


@pytest.mark.parametrize("name", [*PROCESSES, "daemon"])
def test_a_killed_process_heals(stage: Stage, name: str) -> None:
    """After kill -9 of any one process, the daemon included, all are healthy again with no command given."""
    status = stage.ct_json("status")
    pids = {process["name"]: process["pid"] for process in status["processes"]} | {"daemon": status["daemon_pid"]}
    os.kill(pids[name], signal.SIGKILL)
    await_true(lambda: not psutil.pid_exists(pids[name]), 30, f"{name} is gone")
    await_true(
        lambda: bool(stage.ct_json("status")["healthy"]), HEAL_TIMEOUT_S, f"all is healthy after {name} was killed"
    )


def test_down_leaves_nothing_even_when_the_daemon_was_killed(stage: Stage) -> None:
    """With supervisor and sentinel killed at once nobody is left to heal; `ct down` finds every orphan."""
    status = stage.ct_json("status")
    sentinel = next(process["pid"] for process in status["processes"] if process["name"] == "sentinel")
    for pid in (sentinel, status["daemon_pid"]):
        os.kill(pid, signal.SIGKILL)
    stage.ct("down")
    assert sweep.marked({sweep.INSTANCE: stage.home.instance}) == []
