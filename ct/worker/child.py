"""What runs in a job's own process: forked by the server, or alone (`python -m ct.worker.child PARENT_PID ENTRY ARG...`).

A job never outlives whoever started it: a retry of the same node must not meet the first try still writing.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.lifetime import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OOM_SCORE_RAISE = 500
"""Of 1000. The kernel then ends a job that ate the memory, not the server or the other processes."""


def prepare_output() -> None:
    """Have each line of output written at once, and no character fail. The server's forks inherit it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def load_entry(entry: str) -> Callable[[list[str]], Any]:
    """The function that `module:function` names."""
    module, _, function = entry.partition(":")
    found: Callable[[list[str]], Any] = getattr(importlib.import_module(module), function or "main")
    return found


def run_forked(
    entry: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, output: int, close: Sequence[int], parent: int
) -> None:
    """Turn the fork into the job: own session, default signals, output into a pipe. Never returns.

    Exit hooks are not run: preloaded libraries registered them for the server. An entry must have written what it
    wants to keep when it returns.

    Args:
        entry: `module:function`.
        argv: Passed to the entry.
        env: Laid over the inherited environment.
        cwd: The job's working directory.
        output: File descriptor that becomes stdout and stderr.
        close: The server's file descriptors.
        parent: The server's pid.
    """
    code = 1
    try:
        os.setsid()
        _reset_signals()
        die_with_parent(parent)
        _redirect(output)
        for descriptor in close:
            os.close(descriptor)
        _offer_to_oom_killer()
        os.environ.update(env)
        os.chdir(cwd)
        code = run_entry(entry, argv)
    except BaseException:  # noqa: BLE001  the fork must not run on in the server's frames, whatever happens
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def run_entry(entry: str, argv: Sequence[str]) -> int:
    """Call the entry as `python -m` would; its exit code. What it raises is printed and is exit code 1."""
    sys.argv = [entry, *argv]
    try:
        returned = load_entry(entry)(list(argv))
    except SystemExit as stop:
        returned = stop.code
    except BaseException:  # noqa: BLE001  what an interpreter does with an uncaught error
        traceback.print_exc()
        return 1
    if returned is None or isinstance(returned, int):
        return (returned or 0) & 0xFF
    print(returned, file=sys.stderr)  # noqa: T201  as sys.exit("message") does
    return 1


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _redirect(output: int) -> None:
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _offer_to_oom_killer() -> None:
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_text(str(min(1000, int(score.read_text(encoding="ascii")) + OOM_SCORE_RAISE)), encoding="ascii")
    except OSError as error:  # a container without a writable /proc: the job runs all the same
        print(f"The OOM killer was not told to prefer this job: {error}", file=sys.stderr)  # noqa: T201


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader is gone, and with it everyone who could be told
            stream.flush()


def main() -> int:
    """Run one entry in a process of its own, for a client that found no server."""
    parent, entry, *argv = sys.argv[1:]
    die_with_parent(int(parent))
    prepare_output()
    return run_entry(entry, argv)


if __name__ == "__main__":
    sys.exit(main())
