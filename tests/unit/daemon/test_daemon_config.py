"""supervisord's configuration, read back by supervisord's own parser."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from ct.daemon import config
from ct.daemon.programs import Program, RunningCheck, programs
from ct.errors import DaemonError
from ct.home import Home
from ct.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose path holds what supervisord would read as a comment and as an expansion."""
    made = Home(tmp_path / "odd % home ;x #y").create()
    monkeypatch.chdir(made.root)
    return made


def _read(path: Path) -> ServerOptions:
    options = ServerOptions()
    options.realize(["-c", str(path)])
    return options


def test_supervisord_reads_back_what_was_meant(home: Home) -> None:
    """Socket, pid file and logs lie under CT_HOME, each program in its own group leadership, restarted always."""
    options = _read(config.write(home, programs(home, Settings(), {})))
    assert Path(options.pidfile).resolve() == home.run / "supervisord.pid"
    assert options.configroot.supervisord.server_configs[0]["chmod"] == 0o700
    found = {process.name: process for group in options.process_group_configs for process in group.process_configs}
    assert len(found) == 9
    for name, process in found.items():
        assert process.command.split()[1:] == ["-m", "ct.daemon.launch", name]
        assert Path(process.stdout_logfile).resolve() == home.logs / f"{name}.log"
        assert process.stopasgroup
        assert process.killasgroup
        assert process.redirect_stderr
    assert found["worker"].stopwaitsecs == 15


def test_sentinel_stops_before_all_others(home: Home) -> None:
    """Groups stop from the highest priority down; a sentinel that outlived the others would heal them."""
    groups = _read(config.write(home, programs(home, Settings(), {}))).process_group_configs
    assert [group.name for group in sorted(groups, key=lambda group: group.priority)] == ["ct", "watch"]
    assert [process.name for process in groups[-1].process_configs] == ["sentinel"]


def test_environment_survives_with_every_character(home: Home) -> None:
    """Values that supervisord's format cannot hold reach the program through a file that only this user can read."""
    value = "a 'quoted' \"value\" with % and ; and \n a line end"
    program = Program("x", ("/bin/true",), RunningCheck(), cwd=home.run, log=home.logs / "x.log", env={"KEY": value})
    config.write(home, [program])
    written = home.run / "programs.json"
    assert json.loads(written.read_text())["x"]["env"] == {"KEY": value}
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_interpreter_path_with_percent_is_escaped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `%` in a path is not an expansion."""
    monkeypatch.setattr(sys, "executable", "/opt/100%/python 3")
    options = _read(config.write(home, programs(home, Settings(), {})))
    process = options.process_group_configs[0].process_configs[0]
    assert process.command.startswith("'/opt/100%/python 3' -m ")


def test_path_that_cannot_be_written_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather no start than another command than the one meant."""
    monkeypatch.setattr(sys, "executable", "/opt/a #b/python")
    with pytest.raises(DaemonError, match="starts a comment"):
        config.write(home, programs(home, Settings(), {}))
