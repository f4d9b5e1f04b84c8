"""A server and every process that it starts: found by a mark in their environment, stopped and ended by pidfd.

BentoML's workers lead sessions of their own, so that neither the parent nor a process group knows all of a server.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from bench.errors import BenchError
from ct.daemon import sweep
from ct.planes import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CHECKOUT, SERVER = "CT_BENCH", "CT_BENCH_SERVER"
CHECKOUT_ID = hashlib.sha256(str(PROJECT).encode()).hexdigest()[:12]
START_S, POLL_S = 120.0, 0.2
BYTES_A_MB = 1e6
NOT_INHERITED = ("CT_", "BENTOML_", "MLFLOW_", "MLSERVER_", "PYTHON", "VIRTUAL_ENV", "TF_")
"""The caller's settings of any of the servers would change what is measured."""


class Launched:
    """One server that runs.

    Args:
        name: in messages, and in the mark.
        command: what to run.
        env: laid over this process' environment, from which settings of servers are left out.
        cwd: its working directory.
        log: where its output goes.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.name = name
        self.log = log
        self._marks = {CHECKOUT: CHECKOUT_ID, SERVER: name}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**clean_environment(), **env, **self._marks, **sweep.KEEP_ENVIRON},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us; we end it
            )

    def await_ready(self, is_ready: Callable[[], bool]) -> None:
        """Wait until it answers.

        Raises:
            BenchError: it ended, or did not answer in START_S.
        """
        until = time.monotonic() + START_S
        while not is_ready():
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(POLL_S)
                raise BenchError(f"{self.name} ended with {self.process.returncode} as it started:\n{self._tail()}")
            if time.monotonic() > until:
                raise BenchError(f"{self.name} did not answer within {START_S:.0f} s:\n{self._tail()}")

    def pause(self) -> None:
        """Stop all its processes where they are, so that they take nothing from the one that is measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them run on."""
        self._signal(signal.SIGCONT)

    def resident_mb(self) -> float:
        """Resident memory of all its processes, in MB; a page that two of them share counts twice."""
        return self._total(lambda found: float(found.memory_info().rss)) / BYTES_A_MB

    def processor_s(self) -> float:
        """Processor time of all its processes so far, in seconds."""
        return self._total(lambda found: float(sum(found.cpu_times()[:2])))

    def end(self) -> None:
        """End all its processes. Calling it again is safe."""
        self.resume()
        sweep.sweep(self._marks)
        self.process.wait()

    def _total(self, of: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for pid in sweep.marked(self._marks):
            with suppress(psutil.NoSuchProcess):  # it ended while we looked
                total += of(psutil.Process(pid))
        return total

    def _signal(self, number: signal.Signals) -> None:
        for pid in sweep.marked(self._marks):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def clean_environment() -> dict[str, str]:
    """This process' environment without settings of any of the servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}


def end_leftovers() -> int:
    """End what a benchmark of this checkout left behind when it was killed; how many processes that were."""
    marks = {CHECKOUT: CHECKOUT_ID}
    for pid in sweep.marked(marks):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return len(sweep.sweep(marks))
