"""The service that would serve, over a store of its own, on loopback. Nothing that it starts outlives the block it runs in.

::

    CT_HOME/scratch/proof-*/            a CT_HOME of its own, removed afterwards
      settings.yaml                     those of the real home, one worker, nobody else let in, nothing logged
      models/<part>/versions/<version>  a link to the version's folder in the real store
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ct.contracts import DesiredState
from ct.errors import ServiceNotStartedError
from ct.home import Home
from ct.lifetime import die_with_parent
from ct.rollout import ModelStore
from ct.serving_command import serving_command, serving_environment
from ct.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
LOAD_TIMEOUT_S = 60.0
"""As long as a rollout waits for the workers."""
START_POLL_S, LOAD_POLL_S = 0.05, 0.01
ASK_TIMEOUT_S = 2.0
MIB = 1024**2
HTTP_OK = 200
SHOWN_LOG_CHARACTERS = 1500


class NotTakenError(Exception):
    """The service did not take a version; the message says why."""


@dataclass(frozen=True)
class Service:
    """A running service with one worker."""

    home: Home
    """The scratch home."""
    port: int
    worker: int
    """Its pid."""

    def memory_mb(self) -> float:
        """The worker's resident memory, MiB.

        Raises:
            NotTakenError: the worker has ended.
        """
        try:
            resident: int = psutil.Process(self.worker).memory_info().rss
        except psutil.NoSuchProcess as error:
            raise NotTakenError("the serving worker ended") from error
        return resident / MIB

    def load(self, part: str, folder: Path, version: int) -> float:
        """Let the service take a version, as the follower of every serving worker does.

        Args:
            part: what the model is called here.
            folder: the version's folder.
            version: its number.

        Returns:
            Resident memory that this added, MiB.

        Raises:
            NotTakenError: the worker refused the version, ended, or did not answer in time.
        """
        before_mb = self.memory_mb()
        store = ModelStore(self.home, part)
        place = store.version_path(version)
        place.parent.mkdir(parents=True)
        place.symlink_to(folder, target_is_directory=True)
        store.desire(DesiredState(name=part, generation=1, version=version, previous=None, warm=(version,)))
        try:
            self._await_taken(store, version)
        except NotTakenError:
            store.desire_nothing()  # else it is tried again, beside what is measured next
            raise
        return max(0.0, self.memory_mb() - before_mb)

    def _await_taken(self, store: ModelStore, version: int) -> None:
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while time.monotonic() < deadline:
            worker = next((worker for worker in store.live_workers() if worker.pid == self.worker), None)
            if worker is None:
                raise NotTakenError(f"the serving worker ended while it loaded version {version}")
            if worker.error is not None:
                raise NotTakenError(worker.error)
            if worker.serving == version:
                return
            time.sleep(LOAD_POLL_S)
        raise NotTakenError(f"version {version} did not load within {LOAD_TIMEOUT_S:.0f} s")


@contextmanager
def running(real: Home, log: Path) -> Iterator[Service]:
    """Run the service, without any model yet, until the block ends.

    Only for a process of its own which has called ct.lifetime.adopt_orphans: every child that this process has is ended.

    Args:
        real: the home whose settings count.
        log: where the service's output goes.

    Raises:
        ServiceNotStartedError: it ended, or did not answer in time.
    """
    real.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=real.scratch, prefix="proof-") as name:
        home = Home(Path(name)).create()
        settings = _settings(real)
        settings.save(home)
        try:
            process = _start(home, settings, log)
            _await_answer(process, settings.serving_port, log)
            (worker,) = ModelStore(home, "none").live_workers()
            yield Service(home, settings.serving_port, worker.pid)
        finally:
            end_children()


def end_children() -> None:
    """Kill every descendant of this process; it has none when this returns.

    Not an orderly stop: nothing that they hold is kept, and BentoML's takes a second.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process ends anyway, and must not before this is done
    while children := psutil.Process().children():  # those of a killed one come to this process, whatever their session
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children)


def _settings(real: Home) -> Settings:
    with closing(socket.socket()) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    return Settings.load(real).model_copy(
        update={
            "host": HOST,
            "serving_port": port,
            "serving_workers": 1,
            "serving_access": "open",
            "serving_tls_certificate": None,
            "serving_tls_key": None,
            "access_log": False,
            "prediction_log_share": 0.0,
            "ledger_url": None,
        }
    )


def _start(home: Home, settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """Start the service in a session of its own. It is told to stop when this process is gone, also by SIGKILL."""
    own = {PREFIX + name.upper() for name in Settings.model_fields}
    # A collector of traces would take these requests for clients'.
    inherited = {name: value for name, value in os.environ.items() if name not in own and not name.startswith("OTEL_")}
    temporary = home.root / "tmp"
    temporary.mkdir()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            serving_command(settings),
            cwd=home.run,
            env={**inherited, **serving_environment(home), "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509  one thread runs here
        )


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port):
            return
        time.sleep(START_POLL_S)
    ended = (
        f"it ended with code {process.returncode}" if process.returncode is not None else "it did not answer in time"
    )
    said = log.read_text(encoding="utf-8", errors="replace")[-SHOWN_LOG_CHARACTERS:].strip()
    raise ServiceNotStartedError(
        f"The service in which the version is to be proven did not start: {ended}. What serves is not affected. "
        f"Its log is {log}; the end of it: {said}",
        log=str(log),
        code=process.returncode,
    )


def _answers(port: int) -> bool:
    with closing(HTTPConnection(HOST, port, timeout=ASK_TIMEOUT_S)) as connection:
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == HTTP_OK
        except (OSError, HTTPException):
            return False
