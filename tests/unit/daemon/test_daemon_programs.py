"""What runs in a home."""

from __future__ import annotations

from pathlib import Path

from ct.daemon.programs import HttpCheck, Program, WorkerCheck, programs
from ct.home import Home
from ct.settings import Settings

HOME = Home(Path("/srv/ct home"))


def _by_name(**settings: object) -> dict[str, Program]:
    found = programs(HOME, Settings.model_validate(settings), {"AIRFLOW_HOME": "/srv/airflow"})
    return {program.name: program for program in found}


def test_every_part_of_the_product_has_a_program() -> None:
    """Airflow's four parts, MLflow, the worker, serving, the monitor and the sentinel."""
    assert set(_by_name()) == {
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "mlflow",
        "worker",
        "serving",
        "monitor",
        "sentinel",
    }


def test_no_mlflow_server_beside_one_of_the_users_own() -> None:
    """With mlflow_url set, ct starts none."""
    assert "mlflow" not in _by_name(mlflow_url="http://mlflow.example")


def test_ports_reach_commands_checks_and_addresses() -> None:
    """A port in the settings is the port that is listened on, asked and printed."""
    found = _by_name(airflow_port=18201, mlflow_port=18202, serving_port=18203)
    for name, port in (("airflow-api-server", 18201), ("mlflow", 18202), ("serving", 18203)):
        check = found[name].check
        assert isinstance(check, HttpCheck)
        assert check.port == port
        assert str(port) in found[name].command
        assert found[name].address == f"http://127.0.0.1:{port}"


def test_any_address_is_asked_on_loopback() -> None:
    """Who listens everywhere is still asked for its health on this machine."""
    check = _by_name(host="0.0.0.0")["serving"].check
    assert isinstance(check, HttpCheck)
    assert check.host == "127.0.0.1"


def test_airflows_secrets_reach_airflow_only() -> None:
    """Airflow's environment is not handed to the worker, MLflow or serving."""
    assert {name for name, program in _by_name().items() if "AIRFLOW_HOME" in program.env} == {
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
    }


def test_nothing_reports_home() -> None:
    """No server sends usage statistics."""
    for name in ("mlflow", "serving", "worker", "airflow-scheduler"):
        env = _by_name()[name].env
        assert env["DO_NOT_TRACK"] == "1"
        assert env["BENTOML_DO_NOT_TRACK"] == "True"
        assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_worker_is_asked_on_the_socket_it_opens() -> None:
    """Command and health check name the same socket."""
    worker = _by_name()["worker"]
    assert isinstance(worker.check, WorkerCheck)
    assert str(worker.check.socket) in worker.command
    assert worker.env["TF_USE_LEGACY_KERAS"] == "1"


def test_serving_speaks_tls_when_told_to(tmp_path: Path) -> None:
    """Command, address and health check change together."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    serving = _by_name(serving_tls_certificate=certificate, serving_tls_key=key)["serving"]
    tls = serving.command[serving.command.index("--ssl-certfile") :]
    assert tls[:4] == ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    assert "AESGCM" in tls[tls.index("--ssl-ciphers") + 1]
    assert serving.address is not None
    assert serving.address.startswith("https://")
    assert isinstance(serving.check, HttpCheck)
    assert serving.check.tls_certificate == certificate
