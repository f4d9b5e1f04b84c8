"""Stop everything of a home, and say what was stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct.contracts import Value
from ct.daemon import config, supervisord, sweep
from ct.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.home import Home

STOP_TIMEOUT_S = 40.0
"""supervisord kills what did not stop within its program's wait (15 s at most), the sentinel first, then all others."""


class Stopped(Value):
    """What `ct down` ended."""

    was_running: bool
    """False when no supervisord answered: it was killed, or nothing had been started."""
    processes: tuple[str, ...]
    """Names of the programs that supervisord stopped."""
    swept: tuple[str, ...]
    """`pid (command)` of what was found outside supervisord's reach and ended."""


def down(home: Home, on_progress: Callable[[str], None] = lambda _: None) -> Stopped:
    """Stop all processes of the home, also those that a killed supervisord left behind. Calling it twice is safe.

    Args:
        home: The home; one that was never set up has nothing to stop.
        on_progress: Called with a line before each step that takes time.

    Raises:
        DaemonError: processes are still there after SIGKILL.
    """
    if not home.exists:
        return Stopped(was_running=False, processes=(), swept=())
    on_progress("Stopping all processes")
    names = _stop_supervised(home)
    mark = {sweep.INSTANCE: home.instance}
    swept = sweep.sweep(mark)
    left = sweep.marked(mark)
    if left:
        raise DaemonError(
            f"Processes {', '.join(map(str, left))} are still there after SIGKILL, most likely in a disk or network wait. "
            "Everything else has ended. Run `ct down` again.",
            pids=left,
        )
    for path in (home.socket(config.SOCKET), home.socket("worker"), home.run / config.PID_FILE):
        path.unlink(missing_ok=True)
    return Stopped(
        was_running=names is not None,
        processes=names or (),
        swept=tuple(f"{process.pid} ({process.command})" for process in swept),
    )


def _stop_supervised(home: Home) -> tuple[str, ...] | None:
    """Names of the programs that ran, or None when no supervisord answers."""
    try:
        names = tuple(info.name for info in supervisord.processes(home) if info.pid)
        pid = supervisord.shut_down(home)
    except supervisord.NotRunningError:
        return None
    sweep.wait_gone(pid, STOP_TIMEOUT_S)  # whether it went or hangs, the sweep ends what is left, supervisord included
    return names
