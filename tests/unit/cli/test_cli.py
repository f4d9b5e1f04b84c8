"""The `ct` command as a shell sees it: output, exit codes, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ct.home import Home
from ct.rollout import ModelStore, apply, plan_rollout
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

FLIGHTS = Path(__file__).resolve().parents[3] / "pipelines" / "flights"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home").create()


def ct(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ct` against a home, with MLflow out of reach."""
    environment = {**os.environ, "CT_HOME": str(home.root), "CT_MLFLOW_URL": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "ct.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


class _NoRegistry:
    def point_champion(self, name: str, version: int) -> None:
        """There is no registry in these tests."""

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Nor tags."""


def serve(home: Home, folder: Path, *versions: int) -> ModelStore:
    """Roll out versions one after the other, with no serving process."""
    store = ModelStore(home, "trips")
    now = datetime.now(timezone.utc)
    saved_model = folder / "model"
    saved_model.mkdir()
    for version in versions:
        manifest = manifest_of("trips", version, saved_model, created_at=now)
        store.stage(saved_model, manifest, {})
        plan = plan_rollout("trips", version, **store.facts(3))
        apply(plan, store, _NoRegistry(), actor="t", reason="t", clock=lambda: now)
    return store


def test_help_imports_nothing_heavy() -> None:
    """`ct --help` is instant because heavy imports wait in the commands."""
    code = (
        "import sys, ct.cli.main; heavy = {'airflow', 'mlflow', 'pandas', 'pyarrow', 'sqlalchemy', 'rich', 'httpx', "
        "'pydantic', 'supervisor', 'psutil'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_explains_itself(home: Home) -> None:
    """Each command the README names answers --help."""
    names = "up down status deploy sample trigger runs logs events data schema"
    names += " why approve reject reproduce export gc labels monitor"
    names += " models rollout rollback quarantine pin history at replay token doctor"
    for name in names.split():
        done = ct(home, name, "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage:" in done.stdout


def test_empty_states_say_what_to_do(home: Home) -> None:
    """With nothing there yet, each listing says how to begin."""
    assert "no runs yet" in ct(home, "runs").stdout
    assert "no models yet" in ct(home, "models").stdout
    status = ct(home, "status").stdout
    assert "start it with `ct up`" in status
    assert "ct deploy pipelines/flights" in status
    assert ct(home, "down").stdout.strip().endswith("nothing was running")


def test_status_is_json_for_scripts(home: Home) -> None:
    """Processes, health and pipelines are there, also when nothing runs."""
    status = json.loads(ct(home, "status", "--json").stdout)
    assert status["healthy"] is False
    assert status["daemon_alive"] is False
    assert status["pipelines"] == []
    assert {"serving", "worker", "mlflow"} & {process["name"] for process in status["processes"]} >= {
        "serving",
        "worker",
    }


def test_a_folder_that_is_no_home_is_a_message(tmp_path: Path) -> None:
    """Exit 1, one line, no traceback."""
    done = ct(Home(tmp_path / "nothing"), "status")
    assert done.returncode == 1
    assert "is not set up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_pipeline_exits_2_and_deploys_nothing(home: Home, tmp_path: Path) -> None:
    """The message names the key; with --json it is an object on standard output too."""
    folder = tmp_path / "flights"
    folder.mkdir()
    for path in FLIGHTS.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    text = (folder / "pipeline.yaml").read_text().replace("refit: true", "refitt: true")
    (folder / "pipeline.yaml").write_text(text)
    done = ct(home, "deploy", str(folder), "--json")
    assert done.returncode == 2
    assert "did you mean `refit`?" in done.stderr
    assert json.loads(done.stdout)["error"]["type"] == "ConfigError"
    assert not list(home.deployed.glob("*/current.json"))


def test_a_pipeline_that_is_not_deployed_cannot_be_triggered(home: Home) -> None:
    """The message names what is deployed and the command that deploys."""
    done = ct(home, "trigger", "trips")
    assert done.returncode == 2
    assert "deployed: none yet" in done.stderr


def test_a_rollback_needs_no_server(home: Home, tmp_path: Path) -> None:
    """With serving, MLflow and Airflow down the version changes, and what is behind is said."""
    store = serve(home, tmp_path, 1, 2)
    done = ct(home, "rollback", "trips", "--reason", "complaints", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["from"], answer["to"], answer["workers"]) == (2, 1, 0)
    assert "What serves is not affected" in answer["registry_problem"]
    desired = store.desired()
    assert desired is not None
    assert desired.version == 1
    assert store.history()[-1].reason == "complaints"


def test_a_rollback_to_a_version_without_files_changes_nothing(home: Home, tmp_path: Path) -> None:
    """Exit 1; what still serves stands in the message."""
    store = serve(home, tmp_path, 1, 2)
    done = ct(home, "rollback", "trips", "--to", "7")
    assert done.returncode == 1
    assert "its files are missing" in done.stderr
    assert "Version 2 is still serving" in done.stderr
    assert len(store.history()) == 2


def test_models_lists_versions_and_history(home: Home, tmp_path: Path) -> None:
    """What serves, what is warm, and every change."""
    serve(home, tmp_path, 1, 2)
    found = json.loads(ct(home, "models", "--json").stdout)
    assert (found[0]["name"], found[0]["serving"], found[0]["warm"]) == ("trips", 2, [2, 1])
    assert [entry["version"] for entry in found[0]["history"]] == [1, 2]
    assert "serving" in ct(home, "models", "trips").stdout
    assert ct(home, "models", "other").returncode == 2


def test_sample_refuses_a_month_that_does_not_exist(home: Home, tmp_path: Path) -> None:
    """A range is checked before anything is read or written."""
    done = ct(home, "sample", "flights", "--to", str(tmp_path / "out"), "--months", "0-13")
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()
    assert ct(home, "sample", "flights", "--to", "x", "--months", "spring").returncode == 2


def test_doctor_finds_the_planes(home: Home) -> None:
    """Each plane is looked at, and the answer is JSON for scripts."""
    findings = {finding["name"]: finding for finding in json.loads(ct(home, "doctor", "--json").stdout)}
    assert {"control", "training", "serving", "home", "ports", "disk"} <= set(findings)
    assert findings["home"]["state"] == "ok"
