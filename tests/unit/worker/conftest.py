"""A real warm worker with a tiny preload and entry of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ct.worker.execution import CancelSignal, Execution, NoWorkerError, ping

if TYPE_CHECKING:
    from collections.abc import Iterator

JOBS = """
import os, resource, signal, subprocess, sys, time
IMPORTED_BY = os.getpid()
MARK = "first"

def main(argv):
    what, *rest = argv
    return globals()[what](*rest)

def say(*words):
    print(" ".join(words))
def fork_facts():
    print(IMPORTED_BY, os.getpid(), os.getsid(0), os.getcwd(), os.environ.get("JOB_COLOUR"))
    print("to stderr", file=sys.stderr)
    print("oom", open("/proc/self/oom_score_adj").read().strip())
def mark():
    print(MARK)
def fail():
    raise RuntimeError("it broke")
def exit_with(code):
    sys.exit(int(code))
def kill_self(name):
    os.kill(os.getpid(), getattr(signal, name))
def eat_memory():
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    bytearray(2**31)
def blob():
    sys.stdout.buffer.write(b"\\xff\\xfe" + b"x" * 1_000_000 + b"\\nend\\n")
def wait(path):
    open(path, "w").write(str(os.getpid()))
    print("waiting", flush=True)
    time.sleep(60)
def stubborn(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait(path)
def grandchildren(path):
    near = subprocess.Popen(["sleep", "61"])
    far = subprocess.Popen(["sleep", "62"], start_new_session=True)
    open(path, "w").write(f"{near.pid} {far.pid}")
"""


class Worker:
    """A server process, and jobs that go through it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "worker.sock"
        self.log = folder / "server.log"
        (folder / "tiny_jobs.py").write_text(JOBS, encoding="utf-8")
        command = [sys.executable, "-m", "ct.worker.server", "--socket", str(self.socket), "--preload", "tiny_jobs"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--entry", "tiny_jobs:main", "--grace-s", "0.5", *options],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
                stderr=log,
                stdout=log,
            )
        eventually(self.answers, "the worker answers")

    def answers(self) -> bool:
        try:
            ping(self.socket, 5)
        except NoWorkerError:
            return False
        return True

    def job(self, *argv: str, entry: str = "tiny_jobs:main", lines: list[str] | None = None) -> Execution:
        return Execution(
            entry=entry,
            argv=argv,
            env={"JOB_COLOUR": "green"},
            cwd=self.folder,
            on_line=(lines if lines is not None else []).append,
            cancel=CancelSignal(),
        )

    def run(self, *argv: str) -> tuple[int | None, int | None, list[str]]:
        """Exit code, signal and output of one job."""
        lines: list[str] = []
        ended = self.job(*argv, lines=lines).run_in_worker(self.socket)
        return ended.exit_code, ended.signal, lines

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def eventually(condition: object, what: str, seconds: float = 15.0) -> None:
    """Wait until a condition of another process holds; there is nothing to block on there."""
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """False for a process that is gone or a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[object]:
    """Starts workers with options, and stops them after the test."""
    workers: list[Worker] = []

    def make(*options: str) -> Worker:
        workers.append(Worker(tmp_path, *options))
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture
def worker(make_worker: object) -> Worker:
    """A worker with two slots."""
    made: Worker = make_worker("--slots", "2")  # type: ignore[operator]
    return made
