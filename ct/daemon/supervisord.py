"""Talk to a home's supervisord, and start one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from xmlrpc.client import Error, ServerProxy, Transport

from ct.daemon import config, sweep
from ct.errors import DaemonError

if TYPE_CHECKING:
    from pathlib import Path

    from ct.home import Home

START_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ProcessInfo:
    """What supervisord says of one program."""

    name: str
    state: str
    """RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL or UNKNOWN."""
    pid: int | None
    since: datetime | None


class NotRunningError(Exception):
    """supervisord does not answer."""


def start(home: Home) -> None:
    """Start supervisord in a session of its own; returns when its socket is open.

    Raises:
        DaemonError: it refused its configuration, or could not open its socket.
    """
    inherited = {key: value for key, value in os.environ.items() if key != sweep.PROGRAM}
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(home.run / config.CONFIG_FILE)],
        cwd=home.root,
        env={**inherited, "CT_HOME": str(home.root), **sweep.marking(home.instance)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", errors="replace").strip()
        raise DaemonError(
            f"supervisord did not start (exit code {done.returncode}): {said}. Nothing is running. See "
            f"{home.logs / config.DAEMON_LOG}.",
            exit_code=done.returncode,
        )


def shut_down(home: Home) -> int:
    """Ask supervisord to stop all programs and itself. Its pid, to wait for.

    Raises:
        NotRunningError: it does not answer.
    """
    pid = daemon_pid(home)
    _call(home, "shutdown")
    return pid


def daemon_pid(home: Home) -> int:
    """The pid of the supervisord that answers.

    Raises:
        NotRunningError: none answers.
    """
    return int(_call(home, "getPID"))


def processes(home: Home) -> tuple[ProcessInfo, ...]:
    """All programs.

    Raises:
        NotRunningError: supervisord does not answer.
    """
    return tuple(
        ProcessInfo(
            name=found["name"],
            state=found["statename"],
            pid=found["pid"] or None,
            since=datetime.fromtimestamp(found["start"], timezone.utc) if found["pid"] else None,
        )
        for found in _call(home, "getAllProcessInfo")
    )


def _call(home: Home, method: str) -> Any:
    path = home.socket(config.SOCKET)
    try:
        with ServerProxy("http://supervisor", _SocketTransport(path)) as proxy:
            return getattr(proxy.supervisor, method)()
    except (OSError, HTTPException, Error) as error:  # Error: it is shutting down
        raise NotRunningError(f"{path}: {error}") from error


class _SocketTransport(Transport):
    """XML-RPC through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> HTTPConnection:
        return _SocketConnection(str(host), self._path)


class _SocketConnection(HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, host: str, path: Path) -> None:
        super().__init__(host, timeout=CALL_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CALL_TIMEOUT_S)
        try:
            connection.connect(os.fspath(self._path))
        except OSError:
            connection.close()
            raise
        self.sock = connection
