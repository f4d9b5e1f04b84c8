"""The registry against a real MLflow server on SQLite."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from mlflow import MlflowClient

from ct.contracts import DeployedSpec, RunRequest, Span, TriggerKind
from ct.errors import NotRegisteredError, RegistryError
from ct.planes import requirement_hashes
from ct.registry import MlflowRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT_S = 90
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
SPEC = DeployedSpec(
    spec_hash="abc",
    pipeline="trips",
    config={},
    nodes=(),
    readme="",
    deployed_at=NOW,
    code_commit="c0ffee",
    requirement_hashes={"training": "f00d"},
)


def request(run_id: str) -> RunRequest:
    """A run's request, of one span."""
    span = Span(
        pipeline="trips", name="2013-01", revision=1, sha256="aa", uri="/x", format="csv", size_bytes=1, seen_at=NOW
    )
    return RunRequest(
        run_id=run_id,
        pipeline="trips",
        spec_hash="abc",
        trigger=TriggerKind.DATA,
        requested_at=NOW,
        spans=(span,),
        new_spans=("2013-01",),
        seed=1,
        airflow_dag_id="trips",
        airflow_run_id="a",
        mlflow_run_id=None,
    )


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with an empty store."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "a")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not healthy(f"http://127.0.0.1:{port}/health"):
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def healthy(url: str) -> bool:
    """Whether the server answers."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_run_carries_what_it_was_made_from(url: str) -> None:
    """Data, code and the Airflow run are tags, and the pins as they are now, not those that the spec was stored with.

    Params and metrics are logged, twice without harm.
    """
    registry = MlflowRegistry(url)
    run_id = registry.begin_run(request("trips-1"), SPEC)
    for _ in range(2):
        registry.log(run_id, params={"seed": 1}, metrics={"auc": 0.7, "auc/carrier_UA": 0.6}, tags={"ct.verdict": "x"})
    registry.finish_run(run_id)
    run = MlflowClient(url).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"auc": 0.7, "auc/carrier_UA": 0.6}
    assert run.data.params == {"seed": "1"}
    tags = run.data.tags
    assert (tags["ct.data_sha256"], tags["ct.code_commit"]) == ("aa", "c0ffee")
    assert tags["ct.requirements_sha256.training"] == requirement_hashes()["training"]
    assert tags["ct.airflow_dag_run"] == "trips/a"


def test_a_run_begins_once_however_often_it_is_begun(url: str) -> None:
    """A rerun of Register, after MLflow was down as the run began, goes on with the MLflow run it began before."""
    registry = MlflowRegistry(url)
    first = registry.begin_run(request("trips-twice"), SPEC)
    assert MlflowRegistry(url).begin_run(request("trips-twice"), SPEC) == first
    assert registry.begin_run(request("trips-other"), SPEC) != first


def test_a_failed_run_says_why(url: str) -> None:
    """The run ends as failed with the reason as a tag."""
    registry = MlflowRegistry(url)
    run_id = registry.begin_run(request("trips-2"), SPEC)
    registry.fail_run(run_id, "Trainer failed")
    run = MlflowClient(url).get_run(run_id)
    assert (run.info.status, run.data.tags["ct.failure"]) == ("FAILED", "Trainer failed")


def test_a_run_registers_one_version_however_often_it_asks(url: str, tmp_path: Path) -> None:
    """A rerun of Register gets the version it made before; another run gets the next number."""
    registry = MlflowRegistry(url)
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    made = []
    for run_name in ("trips-3", "trips-4"):
        run_id = registry.begin_run(request(run_name), SPEC)
        registry.log_files(run_id, tmp_path, "model")
        made.append(registry.register("trips", run_id, "model", description="good"))
        assert registry.register("trips", run_id, "model", description="good") == made[-1]
    assert [version.version for version in registry.versions("trips")] == [1, 2]


def test_the_alias_champion_names_what_serves(url: str, tmp_path: Path) -> None:
    """The alias moves, and is on one version only."""
    registry = MlflowRegistry(url)
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    for run_name in ("trips-5", "trips-6"):
        run_id = registry.begin_run(request(run_name), SPEC)
        registry.log_files(run_id, tmp_path, "model")
        registry.register("other", run_id, "model", description="good")
    for version in (2, 1):
        registry.point_champion("other", version)
    assert [(version.version, version.aliases) for version in registry.versions("other")] == [
        (1, ("champion",)),
        (2, ()),
    ]


def test_a_version_that_does_not_exist_cannot_be_champion(url: str) -> None:
    """The server's refusal is an error that names the version."""
    with pytest.raises(RegistryError, match="version 99"):
        MlflowRegistry(url).point_champion("trips", 99)


def test_a_version_carries_tags(url: str, tmp_path: Path) -> None:
    """They replace those of the same name, and are cut to what every store takes; an unknown version is ct's own error."""
    registry = MlflowRegistry(url)
    (tmp_path / "MLmodel").write_text("x")
    run_id = registry.begin_run(request("trips-tagged"), SPEC)
    registry.log_files(run_id, tmp_path, "model")
    version = registry.register("tagged", run_id, "model", description="good").version
    registry.tag_version("tagged", version, {"ct.forced_by": "anna", "ct.forced_reason": "x" * 6000})
    registry.tag_version("tagged", version, {"ct.forced_by": "bert"})
    tags = MlflowClient(url).get_model_version("tagged", str(version)).tags
    assert (tags["ct.forced_by"], tags["ct.forced_reason"]) == ("bert", "x" * 5000)
    with pytest.raises(NotRegisteredError, match="tag version 99 of tagged"):
        registry.tag_version("tagged", 99, {"a": "b"})


def test_a_model_that_is_not_registered_has_no_versions(url: str) -> None:
    """Asking after it is no error."""
    assert MlflowRegistry(url).versions("nothing") == ()


def test_a_server_that_is_down_is_said_soon() -> None:
    """The caller hears of it in seconds, with what still works; MLflow's own defaults would take minutes."""
    registry = MlflowRegistry(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(RegistryError, match="What serves is not affected"):
        registry.begin_run(request("trips-7"), SPEC)
    with pytest.raises(RegistryError, match="What serves is not affected"):
        registry.point_champion("trips", 1)
    assert time.monotonic() - began < 60
