"""What Linux arranges about a process: with which others it ends (prctl(2)), and when it may compute."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when `parent` is gone; it ends at once when that has happened already.

    Children do not inherit it; a program that this process becomes by exec keeps it.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it went before the call above
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of each descendant whose own parent ends, so that none can leave this process's tree."""
    _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def compute_when_idle(pid: int = 0) -> None:
    """Let a process, by default this one, compute only when no other wants the processor."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.setpriority(os.PRIO_PROCESS, pid, 19)
