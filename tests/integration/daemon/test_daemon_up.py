"""`up` with a real supervisord, and small programs in place of Airflow, MLflow and the rest."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ct import planes
from ct.daemon import migration, sweep
from ct.daemon import up as up_module
from ct.daemon.down import down
from ct.daemon.programs import HttpCheck, Program
from ct.daemon.up import up
from ct.errors import DaemonError, HomeError
from ct.home import Home
from ct.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEB = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def settings() -> Settings:
    """Ports that nobody else has."""
    return Settings(airflow_port=_free_port(), mlflow_port=_free_port(), serving_port=_free_port())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home that does not exist yet, whose `Airflow` is a web server that must wait for the migration."""
    made = Home(tmp_path / "home")
    for plane in planes.Plane:
        monkeypatch.setenv(f"CT_{plane.name}_ENV", sys.prefix)
    monkeypatch.setattr(up_module, "programs", _web)
    monkeypatch.setattr(up_module, "airflow_commands", lambda _: {"migrate": (sys.executable, "-c", "print('done')")})
    yield made
    down(made)


def _web(home: Home, settings: Settings, _: dict[str, str]) -> tuple[Program, ...]:
    port = settings.airflow_port
    return (
        Program(
            "web",
            (sys.executable, "-c", WEB, str(port)),
            HttpCheck("127.0.0.1", port, "/"),
            cwd=home.airflow,
            log=home.logs / "web.log",
            waits_for=home.run / "airflow-migration.lock",
            start_s=1,
        ),
    )


def test_up_starts_waits_and_keeps_the_settings(home: Home, settings: Settings) -> None:
    """After `up` all is healthy, the database was prepared once, and other shells find the same addresses."""
    seen: list[tuple[str, str]] = []
    found = up(home, settings, detach=True, on_progress=lambda name, state, _: seen.append((name, state)))
    assert found.healthy
    assert seen == [("web", "starting"), ("database", "preparing"), ("database", "ready"), ("web", "healthy")]
    assert Settings.load(home, {}) == settings
    assert not migration.is_due(home)


def test_second_up_changes_nothing(home: Home, settings: Settings) -> None:
    """Running and healthy already: the same processes are reported, and none is started."""
    first = up(home, settings, detach=True)
    second = up(home, settings, detach=True)
    assert [process.pid for process in second.processes] == [process.pid for process in first.processes]


def test_up_beside_an_ill_home_says_what_is_wrong(home: Home, settings: Settings) -> None:
    """A running home that is not healthy is not touched, and the error says who is ill."""
    found = up(home, settings, detach=True)
    with pytest.raises(DaemonError, match=r"(?s)runs already.*web: no answer"):
        up(home, settings.model_copy(update={"airflow_port": _free_port()}), detach=True)
    assert up(home, settings, detach=True).daemon_pid == found.daemon_pid


def test_taken_port_starts_nothing(home: Home, settings: Settings) -> None:
    """A port of another program is found before anything starts."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", settings.mlflow_port))
        holder.listen()
        with pytest.raises(DaemonError, match=f"Port {settings.mlflow_port} is taken"):
            up(home, settings, detach=True)
    assert sweep.marked({sweep.INSTANCE: home.instance}) == []
    assert not (home.root / "settings.yaml").exists()


def test_failed_migration_stops_everything_again(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that cannot be prepared: the last lines are in the error, nothing runs, and the next `up` tries again."""
    broken = (sys.executable, "-c", "raise SystemExit('database is locked')")
    monkeypatch.setattr(up_module, "airflow_commands", lambda _: {"migrate": broken})
    with pytest.raises(DaemonError, match=r"(?s)could not be prepared.*database is locked"):
        up(home, settings, detach=True)
    assert sweep.marked({sweep.INSTANCE: home.instance}) == []
    assert migration.is_due(home)


def test_process_that_keeps_dying_stops_everything_again(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot become healthy ends `up` with its log, and leaves nothing running."""
    dying = (sys.executable, "-c", "raise SystemExit('no module named service')")
    monkeypatch.setattr(
        up_module, "programs", lambda *given: tuple(replace(program, command=dying) for program in _web(*given))
    )
    with pytest.raises(DaemonError, match=r"(?s)web keeps dying.*no module named service"):
        up(home, settings, detach=True)
    assert sweep.marked({sweep.INSTANCE: home.instance}) == []


def test_foreground_up_ends_everything_on_ctrl_c(home: Home, settings: Settings) -> None:
    """Without --detach, Ctrl-C stops all processes and `up` returns."""
    ready = threading.Event()
    waiting = threading.get_ident()

    def interrupt() -> None:
        ready.wait(30)
        signal.pthread_kill(waiting, signal.SIGINT)  # to this thread: threads of other tests do not block the signal

    thread = threading.Thread(target=interrupt)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the signal may come before `up` waits for it
    try:
        thread.start()
        up(
            home,
            settings,
            detach=False,
            on_progress=lambda _name, state, _s: ready.set() if state == "healthy" else None,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        thread.join()
    assert sweep.marked({sweep.INSTANCE: home.instance}) == []


def test_other_layout_is_refused(home: Home, settings: Settings) -> None:
    """A CT_HOME of another version is not touched."""
    home.create()
    (home.root / "home.json").write_text('{"layout": 99, "instance": "x"}')
    with pytest.raises(HomeError, match="layout 99"):
        up(home, settings, detach=True)
    (home.root / "home.json").unlink()
