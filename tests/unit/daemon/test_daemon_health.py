"""Health checks against a small HTTP server."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ct.daemon import health
from ct.daemon.programs import Check, HttpCheck, Program, RunningCheck, WorkerCheck
from tests.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}, "dag_processor": {"status": None}}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(REPORT).encode())

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server that reports as Airflow does."""
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a server that speaks TLS, and its certificate, which is made out to another name."""
    certificate, key = make_certificate(tmp_path, "serving", "predict.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_port, certificate
    server.shutdown()
    thread.join()
    server.server_close()


def _program(check: Check) -> Program:
    return Program("x", ("/bin/true",), check, cwd=Path("/"), log=Path("/dev/null"))


@pytest.mark.parametrize(
    ("path", "part", "problem"),
    [
        ("/health", None, None),
        ("/health", "scheduler", None),
        ("/health", "triggerer", "Airflow reports it as unhealthy"),
        ("/health", "dag_processor", "Airflow reports it as not started yet"),
        ("/health", "unknown", "Airflow reports it as not started yet"),
        ("/broken", None, "/broken answers 500"),
    ],
)
def test_http_check(port: int, path: str, part: str | None, problem: str | None) -> None:
    """Healthy means 200 and, of Airflow's parts, a fresh heartbeat in its report."""
    assert health.problem(_program(HttpCheck("127.0.0.1", port, path, part))) == problem


def test_silence_is_a_problem(tmp_path: Path) -> None:
    """Neither a closed port nor a missing socket is healthy."""
    checks = (HttpCheck("127.0.0.1", 1, "/"), WorkerCheck(tmp_path / "none.sock"))
    for check in checks:
        assert "no answer" in (health.problem(_program(check)) or "")


def test_proxy_of_the_environment_is_not_asked(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local processes are asked directly, whatever http_proxy says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert health.problem(_program(HttpCheck("127.0.0.1", port, "/"))) is None


def test_process_without_an_address_is_healthy_when_it_runs() -> None:
    """The sentinel answers nothing; whether it runs is asked of supervisord."""
    assert health.problems([_program(RunningCheck())]) == {"x": None}


def test_a_server_that_speaks_tls_is_known_by_its_certificate(tls: tuple[int, Path], tmp_path: Path) -> None:
    """Whatever name it is made out to; a certificate that is not there is a problem in words."""
    port, certificate = tls
    assert health.problem(_program(HttpCheck("127.0.0.1", port, "/livez", tls_certificate=certificate)), 5) is None
    missing = health.problem(_program(HttpCheck("127.0.0.1", port, "/livez", tls_certificate=tmp_path / "none")), 5)
    assert missing is not None
    assert "cannot be read" in missing
