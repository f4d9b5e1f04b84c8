"""How Airflow is set up for one CT_HOME: environment variables, secrets and commands. Imports no Airflow."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ct.home import write_atomically
from ct.settings import PREFIX

if TYPE_CHECKING:
    from ct.home import Home
    from ct.settings import Settings

DAGS_FOLDER = Path(__file__).resolve().parent / "dags"
PLUGINS_FOLDER = Path(__file__).resolve().parent / "plugin"
ADMIN = "admin"
KEYS_FILE = "airflow-keys.json"
PASSWORDS_FILE = "airflow-passwords.json"
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  compared with, not bound
LEAST_PARALLEL, MOST_PARALLEL = 4, 8
"""Bounds of the tasks at once. Two a core: a slot stays taken for up to a second after its task has ended, and the warm
worker bounds how many nodes compute."""

SCHEDULER_IDLE_S = 0.1
"""Airflow's default of 1 s is most of what a task in a chain costs: 0.8 to 1.0 s with it, 0.4 s with this and the
executor's preloading (2 cores, measured)."""
PARSE_EVERY_S = 3
"""Seconds between two looks at the deployed specs, so that a new pipeline shows within a few seconds."""

_FIXED = {
    "CORE__EXECUTOR": "ct.airflow.executor.LocalExecutor",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__DAGS_FOLDER": str(DAGS_FOLDER),
    "CORE__PLUGINS_FOLDER": str(PLUGINS_FOLDER),
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
    # A second deploy must not wait for half a minute until Airflow stores the changed DAG.
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(PARSE_EVERY_S),
    "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": str(SCHEDULER_IDLE_S),
    # A task process that was killed is noticed by its missing heartbeats; the default of 300 s is for busy clusters.
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    # One that had not sent any yet when its scheduler was killed is found by this look alone; by default each 300 s.
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
    # A task's supervisor may sleep for this long once its task has ended, with the slot still taken and a skip not yet
    # reported (Airflow 3.3.2, supervisor.py, _monitor_subprocess). The default is 5.
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "LOGGING__COLORED_CONSOLE_LOG": "False",
    "LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
    "LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
    "LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
    "API__INSTANCE_NAME": "ct",
    "API__EXPOSE_CONFIG": "False",
}


def airflow_environment(home: Home, settings: Settings) -> dict[str, str]:
    """All variables that Airflow's processes and its tasks need, the secrets included.

    Keys and the password are generated on the first call and stay the same after; their files are readable by the owner
    only. Calling it from several processes at once is safe.
    """
    keys = _keys(home)
    base_url = _base_url(settings)
    variable = {
        "CORE__FERNET_KEY": keys["fernet"],
        "CORE__PARALLELISM": str(parallelism()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_passwords_path(home)),
        "CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.airflow / 'airflow.db'}",
        "API__BASE_URL": base_url,
        "API__HOST": settings.host,
        "API__PORT": str(settings.airflow_port),
        "API__WORKERS": "1",
        "API__SECRET_KEY": keys["api"],
        "API_AUTH__JWT_SECRET": keys["jwt"],
        "LOGGING__BASE_LOG_FOLDER": str(home.airflow / "logs"),
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(home.airflow / "logs" / "dag_processor"),
    }
    stored = settings.model_dump(mode="json", exclude_none=True)
    return {
        "AIRFLOW_HOME": str(home.airflow),
        "CT_HOME": str(home.root),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        **{PREFIX + key.upper(): str(value) for key, value in stored.items()},
        **{f"AIRFLOW__{key}": value for key, value in {**_FIXED, **variable}.items()},
    }


def airflow_commands(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Component -> command. `migrate` runs once before the others; each of these runs until it is ended.

    LocalExecutor's idle workers ignore SIGTERM: give each its own process group, and kill what is left of it.
    """
    airflow = (sys.executable, "-m", "airflow")
    where = ("--host", settings.host, "--port", str(settings.airflow_port), "--workers", "1")
    return {
        "migrate": (*airflow, "db", "migrate"),
        "api-server": (*airflow, "api-server", *where),
        # The API server reads task logs from disk; without this both would serve them on fixed ports.
        "scheduler": (*airflow, "scheduler", "--skip-serve-logs"),
        "dag-processor": (*airflow, "dag-processor"),
        "triggerer": (*airflow, "triggerer", "--skip-serve-logs"),
    }


def parallelism(cpus: int | None = None) -> int:
    """Tasks that run at once on a machine with so many cores (default: this one)."""
    return max(LEAST_PARALLEL, min(2 * (cpus or os.cpu_count() or 1), MOST_PARALLEL))


def admin_password(home: Home) -> str:
    """The password of Airflow's user `admin`, generated on the first call."""
    _keys(home)
    passwords: dict[str, str] = json.loads(_passwords_path(home).read_text(encoding="utf-8"))
    return passwords[ADMIN]


def _keys(home: Home) -> dict[str, str]:
    """Fernet key, JWT secret and API secret, generated once together with the password."""
    home.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home.secrets / KEYS_FILE
    with (home.secrets / f"{KEYS_FILE}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _passwords_path(home).exists():
            write_atomically(_passwords_path(home), json.dumps({ADMIN: secrets.token_urlsafe(18)}))
        if not path.exists():
            fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")
            made = {"fernet": fernet, "jwt": secrets.token_urlsafe(48), "api": secrets.token_urlsafe(32)}
            write_atomically(path, json.dumps(made))
    keys: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return keys


def _passwords_path(home: Home) -> Path:
    return home.secrets / PASSWORDS_FILE


def _base_url(settings: Settings) -> str:
    """Where this machine reaches the API server, also when that binds every address."""
    return f"http://{ANY_HOST.get(settings.host, settings.host)}:{settings.airflow_port}"
