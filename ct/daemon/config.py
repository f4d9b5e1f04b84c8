"""What supervisord is told: `run/supervisord.conf`, and `run/programs.json` for `ct.daemon.launch`.

Paths are relative to CT_HOME, which supervisord has as its working directory: no path of a user's can then hold a
character that supervisord would read as an expansion or a comment.
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

from ct.daemon.launch import PROGRAMS_FILE
from ct.errors import DaemonError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ct.daemon.programs import Program
    from ct.home import Home

CONFIG_FILE = "supervisord.conf"
PID_FILE = "supervisord.pid"
SOCKET = "supervisor"
DAEMON_LOG = "daemon.log"
START_RETRIES = 8
"""supervisord waits 1 s more before each: 36 s in all, then it leaves the program in state FATAL."""

_HEAD = """\
[supervisord]
logfile = logs/{log}
logfile_maxbytes = 10MB
logfile_backups = 3
pidfile = run/{pid}
childlogdir = logs
nodaemon = false
minfds = 1024
strip_ansi = false

[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
_PROGRAM = """
[program:{name}]
command = {command}
autorestart = true
startsecs = {start_s}
startretries = {retries}
stopsignal = {stop_signal}
stopwaitsecs = {stop_wait_s}
stopasgroup = true
killasgroup = true
redirect_stderr = true
stdout_logfile = logs/{log}
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 3
"""
_GROUP = """
[group:{name}]
programs = {programs}
priority = {priority}
"""


def render(home: Home, programs: Sequence[Program]) -> str:
    """The text of supervisord.conf.

    supervisord stops group after group, the highest priority first, and the programs of one group at the same time: so
    the sentinel goes first, or it would heal what is meant to end, and then all others at once.
    """
    launcher = f"{shlex.quote(sys.executable)} -m ct.daemon.launch"
    sections = [
        _PROGRAM.format(
            name=program.name,
            command=_plain(f"{launcher} {program.name}"),
            start_s=program.start_s,
            retries=START_RETRIES,
            stop_signal=program.stop_signal,
            stop_wait_s=program.stop_wait_s,
            log=program.log.name,
        )
        for program in programs
    ]
    names = [program.name for program in programs]
    groups = [
        _GROUP.format(name=group, programs=",".join(members), priority=priority)
        for group, members, priority in (
            ("ct", [name for name in names if name != "sentinel"], 100),
            ("watch", [name for name in names if name == "sentinel"], 900),
        )
        if members
    ]
    return "".join(
        [
            _HEAD.format(log=DAEMON_LOG, pid=PID_FILE, socket=_plain(_relative(home, home.socket(SOCKET)))),
            *sections,
            *groups,
        ]
    )


def write(home: Home, programs: Sequence[Program]) -> Path:
    """Write both files, readable by this user only (Airflow's keys stand in them). The path of supervisord.conf."""
    launches = {
        program.name: {
            "command": program.command,
            "env": dict(program.env),
            "cwd": str(program.cwd),
            "waits_for": str(program.waits_for) if program.waits_for else None,
        }
        for program in programs
    }
    write_atomically(home.run / PROGRAMS_FILE, json.dumps(launches, indent=1))
    write_atomically(home.run / CONFIG_FILE, render(home, programs))
    return home.run / CONFIG_FILE


def _relative(home: Home, path: Path) -> str:
    return str(path.relative_to(home.root)) if path.is_relative_to(home.root) else str(path)


def _plain(value: str) -> str:
    """The value as supervisord's file format writes it.

    Raises:
        DaemonError: the format has no way to write it.
    """
    if any(sign in value for sign in ("\n", " ;", " #", "\t;", "\t#")):
        raise DaemonError(
            f"supervisord cannot be given the path {value!r}: a blank before `;` or `#` starts a comment in its "
            "configuration. Nothing was started. Install ct in a folder without these.",
            value=value,
        )
    return value.replace("%", "%%")
