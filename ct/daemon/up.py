"""Start everything of a home and wait until each process does its work."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from ct.airflow.environment import airflow_commands, airflow_environment
from ct.daemon import config, heals, migration, preflight, supervisord, sweep
from ct.daemon.down import down
from ct.daemon.launch import STARTS_FOLDER
from ct.daemon.programs import programs
from ct.daemon.status import Status, status_of
from ct.daemon.waiting import wait_healthy
from ct.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ct.daemon.programs import Program
    from ct.daemon.waiting import Tell
    from ct.home import Home
    from ct.settings import Settings

FOREGROUND_POLL_S = 2.0


class OnProgress(Protocol):
    """Told of each step: a process's name (or `database`), what it is doing, and the seconds since the start."""

    def __call__(self, name: str, state: str, seconds: float) -> None:
        """State is `starting`, `healthy`, `preparing` or `ready`."""


def _silent(name: str, state: str, seconds: float) -> None:
    """Tell nobody."""


def up(home: Home, settings: Settings, *, detach: bool, on_progress: OnProgress = _silent) -> Status:
    """Start everything and wait until it is healthy; running already is fine. Writes the settings into the home.

    Args:
        home: Made when it is missing.
        settings: Where the processes listen.
        detach: True returns then; False stays until Ctrl-C or SIGTERM and stops everything, or until `ct down`.
        on_progress: For a display.

    Raises:
        PlaneMissingError, HomeError, ConfigError: nothing was started.
        DaemonError: a port is taken, or a process did not become healthy; then everything was stopped again.
    """
    began_s = time.monotonic()
    home.create()
    with _only_one(home):
        running = _running(home, settings)
        if running is None:
            running = _start(home, settings, lambda name, state: on_progress(name, state, time.monotonic() - began_s))
    if not detach:
        stay(home)
    return running


def stay(home: Home, on_progress: Callable[[str], None] = lambda _: None) -> None:
    """Stay until Ctrl-C or SIGTERM, which stop everything, or until the home was stopped from elsewhere.

    Args:
        home: One that is up.
        on_progress: Called with a line before each step of the stop that takes time.

    Raises:
        DaemonError: supervisord died, and the sentinel gave up starting it again.
    """
    ask_to_stop = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ask_to_stop)
    try:
        while signal.sigtimedwait(ask_to_stop, FOREGROUND_POLL_S) is None:
            history = heals.recorded(home)
            if history and history[-1].gave_up:
                raise DaemonError(history[-1].message, home=str(home.root))
            if not (home.run / config.PID_FILE).exists():  # removed by an orderly stop, not by a death
                return
        down(home, on_progress)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _running(home: Home, settings: Settings) -> Status | None:
    """The status when it runs and is healthy; None when nothing runs.

    Raises:
        DaemonError: it runs, but is not healthy, or listens elsewhere than these settings say.
    """
    found = status_of(home, programs(home, settings, {}))
    if not found.daemon_alive:
        return None
    ill = [f"  {process.name}: {process.problem}" for process in found.processes if not process.healthy]
    if ill:
        lines = [f"ct runs already in {home.root}, but not all is well. Nothing was changed:", *ill]
        raise DaemonError("\n".join([*lines, "See `ct status`, or run `ct down` and `ct up`."]), home=str(home.root))
    return found


def _start(home: Home, settings: Settings, tell: Tell) -> Status:
    sweep.sweep({sweep.INSTANCE: home.instance})  # left by a supervisord and a sentinel that were killed together
    preflight.check(home, settings)
    settings.save(home)
    airflow_env = airflow_environment(home, settings)
    wanted = programs(home, settings, airflow_env)
    _lay_out(home, wanted)
    try:
        _start_and_wait(home, settings, wanted, airflow_env, tell)
    except BaseException:  # Ctrl-C too: what is half started must not stay
        down(home)
        raise
    return status_of(home, wanted)


def _lay_out(home: Home, wanted: Sequence[Program]) -> None:
    for program in wanted:
        program.cwd.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(home.run / STARTS_FOLDER, ignore_errors=True)
    (home.run / STARTS_FOLDER).mkdir()
    heals.forget(home)
    config.write(home, wanted)


def _start_and_wait(
    home: Home, settings: Settings, wanted: Sequence[Program], airflow_env: Mapping[str, str], tell: Tell
) -> None:
    """Airflow's processes wait for its database; all others come up while that is prepared."""
    with migration.migration_lock(home):
        supervisord.start(home)
        for program in wanted:
            tell(program.name, "starting")
        if migration.is_due(home):
            tell("database", "preparing")
            migration.migrate(home, airflow_commands(settings)["migrate"], os.environ | airflow_env)
            tell("database", "ready")
    wait_healthy(home, wanted, tell)


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    with (home.run / "up.lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DaemonError(
                f"Another `ct up` is starting {home.root} right now. Wait for it, or see `ct status`.",
                home=str(home.root),
            ) from error
        yield
