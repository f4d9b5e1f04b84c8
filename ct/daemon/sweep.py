"""Find and end every process of a home, whoever its parent is by now.

Each process carries `CT_INSTANCE=<home.instance>` in the environment that it was started with, which the kernel shows in
/proc/<pid>/environ and which children inherit. Standard library only: `launch` runs this at the start of each process.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTANCE = "CT_INSTANCE"
PROGRAM = "CT_PROGRAM"
KEEP_ENVIRON = {"SPT_NOENV": "1"}
"""Airflow renames its processes with setproctitle, which writes over what /proc/<pid>/environ shows unless told not to."""
GRACE_S = 3.0
"""Between SIGTERM and SIGKILL. What is swept had its orderly stop already, or its parent was killed."""
KILL_WAIT_S = 10.0
ROUNDS = 5
"""A process may be born while we look. Each round finds the children of the one before."""


@dataclass(frozen=True)
class Swept:
    """A process that a sweep ended."""

    pid: int
    command: str
    killed: bool
    """True when it did not heed SIGTERM."""


def marking(instance: str) -> dict[str, str]:
    """The variables to start a process with so that a sweep of that instance finds it and its descendants."""
    return {INSTANCE: instance, **KEEP_ENVIRON}


def marked(marks: dict[str, str]) -> list[int]:
    """The pids of this user's processes, this one excepted, that were started with all these variables."""
    wanted = {f"{name}={value}".encode() for name, value in marks.items()}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):  # it ended, or is another user's
                if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
    return found


def sweep(marks: dict[str, str], *, grace_s: float = GRACE_S) -> tuple[Swept, ...]:
    """End all processes with these marks: SIGTERM, then SIGKILL. Nothing to end is fine.

    Returns:
        What was ended, in the order found.
    """
    ended: list[Swept] = []
    for _ in range(ROUNDS):
        pids = marked(marks)
        if not pids:
            break
        ended += _end(pids, grace_s)
    return tuple(ended)


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Wait for a process that need not be our child; False when it is still there after `timeout_s`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return not _still_there({descriptor: pid}, timeout_s)
    finally:
        os.close(descriptor)


def _end(pids: Iterable[int], grace_s: float) -> list[Swept]:
    # A pidfd names one process for good; a pid could be another's by the time the signal is sent.
    commands = {pid: _command(pid) for pid in pids}
    open_pids: dict[int, int] = {}
    try:
        for pid in commands:
            with suppress(ProcessLookupError):
                open_pids[os.pidfd_open(pid)] = pid
        _signal(open_pids, signal.SIGTERM)
        stubborn = _still_there(open_pids, grace_s)
        _signal(stubborn, signal.SIGKILL)
        _still_there(stubborn, KILL_WAIT_S)
        killed = set(stubborn.values())
        return [Swept(pid, commands[pid], killed=pid in killed) for pid in open_pids.values()]
    finally:
        for descriptor in open_pids:
            os.close(descriptor)


def _signal(open_pids: Iterable[int], number: signal.Signals) -> None:
    for descriptor in open_pids:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _still_there(open_pids: dict[int, int], timeout_s: float) -> dict[int, int]:
    """Those of these pidfds whose process lives on after `timeout_s`."""
    left = dict(open_pids)
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + timeout_s
    while left:
        ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
        if not ready:
            break
        for descriptor, _ in ready:
            poll.unregister(descriptor)
            del left[descriptor]
    return left


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    return b" ".join(words).decode("utf-8", errors="replace").strip()
