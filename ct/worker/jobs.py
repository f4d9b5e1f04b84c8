"""A job on the server's side: the fork, its output, its end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ct.worker import child, protocol
from ct.worker.execution import CHUNK_BYTES, drained, ended, kill_group

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class RunningJob:
    """A forked job. `output` and `exited` become readable on output and at the end."""

    pid: int
    output: int
    exited: int
    began_s: float
    lines: protocol.LineBuffer = field(default_factory=lambda: protocol.LineBuffer(protocol.MAX_LINE_BYTES))
    kill_at_s: float | None = None

    def read(self) -> list[bytes] | None:
        """Lines of output that are complete now; None at the end of the output."""
        try:
            data = os.read(self.output, CHUNK_BYTES)
        except BlockingIOError:
            return []
        return self.lines.feed(data) if data else None

    def terminate(self, grace_s: float) -> None:
        """SIGTERM to the job's group, once; `kill_if_due` follows it up."""
        if self.kill_at_s is None:
            kill_group(self.pid, signal.SIGTERM)
            self.kill_at_s = time.monotonic() + grace_s

    def kill_if_due(self) -> None:
        """SIGKILL to the job's group when its grace is over."""
        if self.kill_at_s is not None and time.monotonic() >= self.kill_at_s:
            kill_group(self.pid, signal.SIGKILL)

    def finish(self) -> tuple[list[bytes], protocol.Ended]:
        """The last lines and the end of a job whose process has exited; what it left in its group is killed."""
        kill_group(self.pid, signal.SIGKILL)  # the exited process still holds the group's id until it is waited for
        lines = [line for chunk in drained(self.output) for line in self.lines.feed(chunk)] + self.lines.rest()
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.output)
        os.close(self.exited)
        return lines, ended(os.waitstatus_to_exitcode(status), time.monotonic() - self.began_s, usage.ru_maxrss)


def fork_job(run: protocol.Run, entry: str, server_descriptors: Sequence[int]) -> RunningJob:
    """Start a job. Returns in the server only.

    Raises:
        OSError: the kernel has no process, memory or descriptor left.
    """
    parent = os.getpid()
    output, theirs = os.pipe()
    sys.stdout.flush()  # or the fork would write it again
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError:
        os.close(output)
        os.close(theirs)
        raise
    if pid == 0:
        child.run_forked(
            run.entry or entry,
            run.argv,
            env=run.env,
            cwd=run.cwd,
            output=theirs,
            close=[*server_descriptors, output],
            parent=parent,
        )
    os.close(theirs)
    os.set_blocking(output, False)
    return RunningJob(pid=pid, output=output, exited=os.pidfd_open(pid), began_s=time.monotonic())


def adopt_strays() -> None:
    """Become the parent of whatever a job's process leaves behind, so that `end_strays` finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_strays() -> None:
    """Kill and reap children that left their job's group and outlived it. Only while no job runs."""
    for pid in _children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    me = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended while we looked
                after_name = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
                if int(after_name.split()[1]) == me:
                    found.append(int(entry.name))
    return found
