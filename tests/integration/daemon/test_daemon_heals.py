"""A real supervisord with small programs: what dies comes back, what is stopped is gone."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ct.daemon import config, heals, sentinel, supervisord, sweep
from ct.daemon.down import down
from ct.daemon.launch import STARTS_FOLDER
from ct.daemon.programs import HttpCheck, Program, RunningCheck
from ct.daemon.status import Status, status_of
from ct.daemon.waiting import wait_healthy
from ct.errors import DaemonError
from ct.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WEB = '''
import http.server, signal, subprocess, sys
# A child that ignores SIGTERM, renames itself over its environment and has a session of its own: Airflow's
# LocalExecutor workers do the first two.
CHILD = """
import signal, time, setproctitle
signal.signal(15, signal.SIG_IGN)
setproctitle.setproctitle("renamed " * 4000)
print("child renamed", flush=True)
time.sleep(300)
"""
subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True, stdout=subprocess.PIPE).stdout.readline()
print("web begins", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home in a folder with a blank and a `%`, stopped after the test."""
    made = Home(tmp_path / "a % home").create()
    (made.run / STARTS_FOLDER).mkdir()
    yield made
    down(made)
    assert sweep.marked({sweep.INSTANCE: made.instance}) == []


@pytest.fixture
def wanted(home: Home) -> tuple[Program, ...]:
    """A web server and the real sentinel."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return (
        Program(
            "web",
            (sys.executable, "-c", WEB, str(port)),
            HttpCheck("127.0.0.1", port, "/"),
            cwd=home.run,
            log=home.logs / "web.log",
            start_s=1,
        ),
        Program(
            "sentinel",
            (sys.executable, "-m", "ct.daemon.sentinel"),
            RunningCheck(),
            cwd=home.run,
            log=home.logs / "sentinel.log",
            env={"CT_HOME": str(home.root)},
            start_s=0,
        ),
    )


@pytest.fixture
def running(home: Home, wanted: tuple[Program, ...]) -> Callable[[], Status]:
    """Started and healthy; the value asks for the status."""
    config.write(home, wanted)
    supervisord.start(home)
    wait_healthy(home, wanted, lambda *_: None, timeout_s=20)
    return lambda: status_of(home, wanted)


def _eventually(ask: Callable[[], Status], holds: Callable[[Status], bool], seconds: float = 25) -> Status:
    """Ask until something holds; there is nothing to wait on across supervisord's death."""
    until = time.monotonic() + seconds
    while not holds(found := ask()):
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found


def _pid(status: Status, name: str) -> int:
    pid = next(process.pid for process in status.processes if process.name == name)
    assert pid
    return pid


def test_killed_program_is_restarted_and_its_leftovers_end(home: Home, running: Callable[[], Status]) -> None:
    """Kill -9 of a program: it is back and healthy, its orphaned child is gone, and the restart is counted."""
    mark = {sweep.INSTANCE: home.instance, sweep.PROGRAM: "web"}
    before = set(sweep.marked(mark))
    assert len(before) == 2
    os.kill(_pid(running(), "web"), signal.SIGKILL)
    found = _eventually(running, lambda status: status.healthy and status.processes[0].restarts == 1)
    assert _pid(found, "web") not in before
    assert not before & set(sweep.marked(mark))


def test_killed_sentinel_is_restarted(running: Callable[[], Status]) -> None:
    """Who watches is watched: supervisord restarts the sentinel."""
    first = _pid(running(), "sentinel")
    os.kill(first, signal.SIGKILL)
    _eventually(running, lambda status: status.healthy and _pid(status, "sentinel") != first)


def test_killed_supervisord_is_healed(home: Home, running: Callable[[], Status]) -> None:
    """Kill -9 of the daemon: a fresh one runs everything anew, no old process stays, and the status tells of it."""
    before = running()
    old = set(sweep.marked({sweep.INSTANCE: home.instance}))
    assert before.daemon_pid
    os.kill(before.daemon_pid, signal.SIGKILL)
    after = _eventually(running, lambda status: status.healthy and status.daemon_pid != before.daemon_pid)
    _eventually(running, lambda _: not old & set(sweep.marked({sweep.INSTANCE: home.instance})))
    assert after.last_heal or _eventually(running, lambda status: status.last_heal is not None)
    assert f"supervisord (pid {before.daemon_pid}) died" in heals.recorded(home)[0].message


def test_supervisord_that_dies_again_and_again_is_given_up(home: Home, running: Callable[[], Status]) -> None:
    """After so many heals in so short a time everything ends, and the status says what to do."""
    for _ in range(sentinel.HEALS_MAX):
        heals.record(home, heals.Heal(at=sentinel.datetime.now(sentinel.timezone.utc), message="died"))
    pid = running().daemon_pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    found = _eventually(running, lambda status: bool(status.last_heal and status.last_heal.gave_up))
    assert not found.daemon_alive
    assert "run `ct up`" in found.last_heal.message if found.last_heal else False
    assert {process.state for process in found.processes} == {"DOWN"}


def test_down_leaves_nothing_behind_and_works_twice(home: Home, running: Callable[[], Status]) -> None:
    """All programs stop; a child that ignores SIGTERM and left its group is ended too, and named."""
    assert running().healthy
    stopped = down(home)
    assert stopped.was_running
    assert set(stopped.processes) == {"web", "sentinel"}
    assert len(stopped.swept) == 1
    assert not sweep.marked({sweep.INSTANCE: home.instance})
    assert not home.socket(config.SOCKET).exists()
    again = down(home)
    assert (again.was_running, again.processes, again.swept) == (False, (), ())
    assert not running().daemon_alive


def test_down_works_when_supervisord_and_sentinel_were_killed(home: Home, running: Callable[[], Status]) -> None:
    """With both watchers killed at once the orphans are still found and ended."""
    status = running()
    for pid in (_pid(status, "sentinel"), status.daemon_pid):
        assert pid
        os.kill(pid, signal.SIGSTOP)  # or one would heal the other before both are dead
    for pid in (_pid(status, "sentinel"), status.daemon_pid):
        os.kill(pid or 0, signal.SIGKILL)
    stopped = down(home)
    assert not stopped.was_running
    assert len(stopped.swept) >= 2
    assert not sweep.marked({sweep.INSTANCE: home.instance})


def test_program_that_keeps_dying_is_reported_with_its_last_lines(home: Home, wanted: tuple[Program, ...]) -> None:
    """The error names the process, quotes its output and gives the log's path."""
    broken = replace(wanted[0], command=(sys.executable, "-c", "print('no such database'); raise SystemExit(3)"))
    config.write(home, (broken,))
    supervisord.start(home)
    with pytest.raises(DaemonError, match=r"(?s)web keeps dying.*web\.log.*no such database"):
        wait_healthy(home, (broken,), lambda *_: None, timeout_s=20)


def test_configuration_error_is_reported(home: Home, wanted: tuple[Program, ...]) -> None:
    """When supervisord refuses to start, its own words are in the error."""
    config.write(home, wanted).write_text("[supervisord]\nloglevel = loud\n")
    with pytest.raises(DaemonError, match="supervisord did not start"):
        supervisord.start(home)
