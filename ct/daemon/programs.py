"""What runs in a home: a pure function from the home and its settings to the programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct.airflow.environment import airflow_commands
from ct.planes import Plane, environment
from ct.serving_command import serving_command, serving_environment
from ct.worker.environment import training_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ct.home import Home
    from ct.settings import Settings

ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not bound
NO_TRACKING = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True"}
AIRFLOW_PARTS = {
    "api-server": None,
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
"""Component -> what Airflow's health report calls it; the API server is asked for itself."""
STOP_SERVING_S = 30
"""BentoML gives its workers as long to answer what is in flight."""
MIGRATION_LOCK = "airflow-migration.lock"


@dataclass(frozen=True)
class HttpCheck:
    """Healthy when a GET answers 200; with `part`, when Airflow's health report calls that part healthy."""

    host: str
    port: int
    path: str
    part: str | None = None
    tls_certificate: Path | None = None
    """When the server speaks TLS: what it shows."""


@dataclass(frozen=True)
class WorkerCheck:
    """Healthy when the warm worker answers a ping."""

    socket: Path


@dataclass(frozen=True)
class RunningCheck:
    """Healthy when it runs."""


Check = HttpCheck | WorkerCheck | RunningCheck


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: tuple[str, ...]
    check: Check
    cwd: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Laid over the daemon's own environment."""
    address: str | None = None
    """Where people and clients reach it."""
    stop_signal: str = "TERM"
    stop_wait_s: int = 10
    """Seconds before its whole process group is killed."""
    start_s: int = 3
    """Seconds it must run before a death counts as a fresh one; sooner deaths wait longer and longer."""
    waits_for: Path | None = None
    """A lock that `ct up` holds while it prepares what this program needs."""


def programs(home: Home, settings: Settings, airflow_env: Mapping[str, str]) -> tuple[Program, ...]:
    """The programs of a home. `airflow_env` is what ct.airflow.environment gives for it."""
    mlflow = () if settings.mlflow_url else (_mlflow(home, settings),)
    return (
        *_airflow(home, settings, airflow_env),
        *mlflow,
        _worker(home, settings),
        _serving(home, settings),
        _monitor(home),
        _sentinel(home),
    )


def _airflow(home: Home, settings: Settings, env: Mapping[str, str]) -> tuple[Program, ...]:
    host = ANY_HOST.get(settings.host, settings.host)
    commands = airflow_commands(settings)
    return tuple(
        Program(
            name=f"airflow-{part}",
            command=commands[part],
            check=_airflow_check(host, settings.airflow_port, reported_as),
            cwd=home.airflow,
            log=home.logs / f"airflow-{part}.log",
            env={**env, **NO_TRACKING},
            address=settings.airflow_base_url if part == "api-server" else None,
            waits_for=home.run / MIGRATION_LOCK,
        )
        for part, reported_as in AIRFLOW_PARTS.items()
    )


def _airflow_check(host: str, port: int, reported_as: str | None) -> HttpCheck:
    """A part as Airflow reports it; of the API server the API for tasks, which takes seconds to load at its first call."""
    if reported_as is None:
        return HttpCheck(host, port, "/execution/health")
    return HttpCheck(host, port, "/api/v2/monitor/health", reported_as)


def _mlflow(home: Home, settings: Settings) -> Program:
    return Program(
        name="mlflow",
        command=(
            *(sys.executable, "-m", "mlflow", "server"),
            *("--backend-store-uri", f"sqlite:///{home.mlflow / 'mlflow.db'}"),
            *("--serve-artifacts", "--artifacts-destination", (home.mlflow / "artifacts").as_uri()),
            *("--host", settings.host, "--port", str(settings.mlflow_port), "--workers", "1"),
        ),
        check=HttpCheck(ANY_HOST.get(settings.host, settings.host), settings.mlflow_port, "/health"),
        cwd=home.mlflow,
        log=home.logs / "mlflow.log",
        # Its job queue is for evaluations of language models: five more processes that nothing here uses.
        env={**NO_TRACKING, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        address=settings.mlflow_base_url,
    )


def _worker(home: Home, settings: Settings) -> Program:
    server = ("-m", "ct.worker.server", "--socket", str(home.socket("worker")))
    return Program(
        name="worker",
        command=(
            *(_python(Plane.TRAINING), *server),
            *("--preload", "ct.training.preload", "--entry", "ct.training.launch:main"),
        ),
        check=WorkerCheck(home.socket("worker")),
        cwd=home.run,
        log=home.logs / "worker.log",
        env={**NO_TRACKING, **training_environment(home, settings)},
        address=f"unix:{home.socket('worker')}",
        stop_wait_s=15,  # more than the grace that the worker itself gives its jobs
    )


def _serving(home: Home, settings: Settings) -> Program:
    host = ANY_HOST.get(settings.host, settings.host)
    return Program(
        name="serving",
        command=serving_command(settings),
        check=HttpCheck(host, settings.serving_port, "/livez", tls_certificate=settings.serving_tls_certificate),
        cwd=home.run,
        log=home.logs / "serving.log",
        stop_wait_s=STOP_SERVING_S,
        env={**NO_TRACKING, **serving_environment(home)},
        address=settings.serving_base_url,
    )


def _monitor(home: Home) -> Program:
    return Program(
        name="monitor",
        command=(sys.executable, "-m", "ct.monitor"),
        check=RunningCheck(),
        cwd=home.run,
        log=home.logs / "monitor.log",
        env={**NO_TRACKING, "CT_HOME": str(home.root)},
    )


def _sentinel(home: Home) -> Program:
    return Program(
        name="sentinel",
        command=(sys.executable, "-m", "ct.daemon.sentinel"),
        check=RunningCheck(),
        cwd=home.run,
        log=home.logs / "sentinel.log",
        env={"CT_HOME": str(home.root)},
        start_s=1,
    )


def _python(plane: Plane) -> str:
    """Where the plane's interpreter would be; `ct up` checks that it is there."""
    return str(environment(plane) / "bin" / "python")
