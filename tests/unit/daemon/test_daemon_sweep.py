"""Finding and ending marked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from ct.daemon import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IGNORES_SIGTERM = "import signal,time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
SLEEPS = "import time; print(flush=True); time.sleep(60)"
LEAVES_ORPHAN = (
    "import subprocess,sys; p=subprocess.Popen([sys.executable,'-c','import time;time.sleep(60)'],"
    "start_new_session=True); print(p.pid, flush=True)"
)


@pytest.fixture
def mark() -> dict[str, str]:
    """A mark that no other process carries."""
    return {sweep.INSTANCE: uuid.uuid4().hex}


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code with an environment, and waits until it runs."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, env: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | env,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout
        process.first_line = process.stdout.readline()  # type: ignore[attr-defined]
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_sweep_ends_marked_processes_and_no_other(start: Callable[..., Any], mark: dict[str, str]) -> None:
    """What carries the mark ends, by SIGKILL where SIGTERM is ignored; what carries another one lives."""
    gentle, stubborn = start(SLEEPS, mark), start(IGNORES_SIGTERM, mark)
    other = start(SLEEPS, {sweep.INSTANCE: "another home"})
    ended = {process.pid: process.killed for process in sweep.sweep(mark, grace_s=0.3)}
    assert ended == {gentle.pid: False, stubborn.pid: True}
    assert gentle.wait(5) == -15
    assert stubborn.wait(5) == -9
    assert other.poll() is None


def test_sweep_finds_orphans_by_inheritance(start: Callable[..., Any], mark: dict[str, str]) -> None:
    """A grandchild whose parent is gone, in a session of its own, carries the mark on."""
    parent = start(LEAVES_ORPHAN, mark)
    orphan = int(parent.first_line)
    parent.wait(5)
    assert [process.pid for process in sweep.sweep(mark)] == [orphan]
    assert sweep.wait_gone(orphan, 5)


def test_all_marks_must_match(start: Callable[..., Any], mark: dict[str, str]) -> None:
    """One program of a home can be swept without the others."""
    first = start(SLEEPS, {**mark, sweep.PROGRAM: "first"})
    second = start(SLEEPS, {**mark, sweep.PROGRAM: "second"})
    assert [process.pid for process in sweep.sweep({**mark, sweep.PROGRAM: "first"})] == [first.pid]
    assert second.poll() is None


def test_sweep_never_ends_itself(mark: dict[str, str]) -> None:
    """A marked process that sweeps its home lives on."""
    code = f"from ct.daemon import sweep; print(sweep.sweep({mark!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | mark, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "()"


def test_nothing_to_sweep_is_fine(mark: dict[str, str]) -> None:
    """Sweeping twice is safe."""
    assert sweep.sweep(mark) == ()


def test_wait_gone_times_out_on_a_living_process(start: Callable[..., Any]) -> None:
    """A process that stays is reported as staying."""
    assert not sweep.wait_gone(start(SLEEPS, {}).pid, 0.05)
