"""Airflow's database: made or brought up to date once a version, while the other processes already start."""

from __future__ import annotations

import fcntl
import subprocess
from contextlib import contextmanager
from importlib.metadata import version
from typing import IO, TYPE_CHECKING

from ct.daemon.programs import MIGRATION_LOCK
from ct.daemon.sweep import marking
from ct.errors import DaemonError
from ct.home import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ct.home import Home

MARKER = "migrated-to"
LOG_NAME = "airflow-migration.log"
TAIL_LINES = 15


@contextmanager
def migration_lock(home: Home) -> Iterator[IO[str]]:
    """Hold Airflow's processes back: each waits for this lock before it becomes Airflow."""
    with (home.run / MIGRATION_LOCK).open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def is_due(home: Home) -> bool:
    """True when this version of Airflow has not migrated the home's database yet."""
    try:
        return (home.airflow / MARKER).read_text(encoding="utf-8") != _version()
    except FileNotFoundError:
        return True


def migrate(home: Home, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run `airflow db migrate` when it is due: it costs some ten seconds even when there is nothing to do.

    Args:
        home: Its `airflow/` folder exists.
        command: What ct.airflow.environment calls `migrate`.
        environment: The whole environment of the command.

    Raises:
        DaemonError: it failed; the message ends with its last lines.
    """
    if not is_due(home):
        return
    log = home.logs / LOG_NAME
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            cwd=home.airflow,
            env={**environment, **marking(home.instance)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        raise DaemonError(
            "\n".join([f"Airflow's database could not be prepared: exit code {done.returncode}. See {log}.", *lines]),
            exit_code=done.returncode,
            log=str(log),
        )
    write_atomically(home.airflow / MARKER, _version())


def _version() -> str:
    return version("apache-airflow")
