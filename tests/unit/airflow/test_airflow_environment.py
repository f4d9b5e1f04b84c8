"""How Airflow is set up for a home."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
import yaml

from ct.airflow.environment import DAGS_FOLDER, admin_password, airflow_commands, airflow_environment, parallelism
from ct.home import Home
from ct.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that was set up."""
    return Home(tmp_path).create()


def test_secrets_are_made_once_and_only_the_owner_may_read_them(home: Home) -> None:
    """A restart must not invalidate tokens, stored connections or the password."""
    first = airflow_environment(home, Settings())
    password = admin_password(home)
    assert airflow_environment(home, Settings()) == first
    assert admin_password(home) == password
    for path in home.secrets.glob("*.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700
    assert len(base64.urlsafe_b64decode(first["AIRFLOW__CORE__FERNET_KEY"])) == 32


def test_secrets_differ_between_homes(tmp_path: Path) -> None:
    """One installation's token is no key to another."""
    keys = {
        airflow_environment(Home(tmp_path / name).create(), Settings())["AIRFLOW__API_AUTH__JWT_SECRET"]
        for name in "ab"
    }
    assert len(keys) == 2


def test_the_password_file_is_the_one_that_airflow_reads(home: Home) -> None:
    """SimpleAuthManager finds a user's password in the file and generates none, so none is printed to a log."""
    path = airflow_environment(home, Settings())["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]
    with open(path, encoding="utf-8") as file:  # noqa: PTH123  as Airflow does
        assert json.load(file) == {"admin": admin_password(home)}


def test_every_process_gets_the_home_and_the_settings(home: Home) -> None:
    """A task must find the same ledger, models and MLflow as `ct`."""
    found = airflow_environment(home, Settings(airflow_port=18080, mlflow_url="http://elsewhere:5000"))
    assert found["CT_HOME"] == str(home.root)
    assert found["CT_MLFLOW_URL"] == "http://elsewhere:5000"
    assert found["AIRFLOW_HOME"] == str(home.airflow)
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18080/execution/"


def test_tasks_reach_a_server_that_binds_every_address_over_loopback(home: Home) -> None:
    """0.0.0.0 is an address to bind, not one to call."""
    found = airflow_environment(home, Settings(host="0.0.0.0", airflow_port=18080))
    assert found["AIRFLOW__API__HOST"] == "0.0.0.0"
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18080/execution/"


def test_every_variable_is_an_option_that_this_airflow_knows(home: Home) -> None:
    """An option that Airflow renamed would be ignored without a word."""
    described = files("airflow") / "config_templates" / "config.yml"
    sections = yaml.safe_load(described.read_text(encoding="utf-8"))
    names = [name.split("__", 2)[1:] for name in airflow_environment(home, Settings()) if name.startswith("AIRFLOW__")]
    unknown = [name for name in names if name[1].lower() not in sections[name[0].lower()]["options"]]
    assert unknown == []


@pytest.mark.parametrize(("cpus", "tasks"), [(1, 4), (2, 4), (3, 6), (64, 8)])
def test_parallelism_fits_the_machine(cpus: int, tasks: int) -> None:
    """Two a core, because a slot outlives its task; bounded, because each is a process."""
    assert parallelism(cpus) == tasks


def test_commands_name_the_configured_address() -> None:
    """The API server listens where the settings say, with one worker; nothing serves logs on a fixed port."""
    commands = airflow_commands(Settings(airflow_port=18080))
    assert set(commands) == {"migrate", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert commands["api-server"][3:] == ("api-server", "--host", "127.0.0.1", "--port", "18080", "--workers", "1")
    assert "--skip-serve-logs" in commands["scheduler"]
    assert "--skip-serve-logs" in commands["triggerer"]


def test_the_dags_folder_holds_one_file() -> None:
    """Airflow parses everything it finds there."""
    assert [path.name for path in DAGS_FOLDER.glob("*.py")] == ["ct_pipelines.py"]


def test_environment_and_api_need_no_airflow() -> None:
    """The daemon and the CLI import them, and must not wait for Airflow's import."""
    modules = "ct.airflow.environment, ct.airflow.api, ct.airflow.closing, ct.airflow.scan"
    script = f"import sys, {modules}; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
