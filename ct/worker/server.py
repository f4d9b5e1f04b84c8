"""The warm worker's server: imports once, then forks a process a job.

::

    python -m ct.worker.server --socket S --preload ct.training.preload --entry ct.training.launch:main

The socket takes connections from before the preload on: who comes early waits in its queue, and so does who comes while
the server recycles itself.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ct.worker.child import prepare_output
from ct.worker.jobs import adopt_strays
from ct.worker.loop import LOG, Server
from ct.worker.recycle import Preloaded, RecycleLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKLOG = 128
FORK_SAFE_THREADS = frozenset({"jemalloc_bg_thd"})
"""pyarrow's allocator: jemalloc takes its locks before a fork, and starts the thread anew in the child when needed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Preload, serve, and start afresh by exec when due."""
    options = _parser().parse_args(arguments)
    prepare_output()
    _log_to_stderr()
    listener = _inherited(options.listener) if options.listener is not None else _bound(options.socket)
    if listener is None:
        LOG.error("Another warm worker answers on %s; this one ends.", options.socket)
        return 1
    adopt_strays()
    preloaded = _preload(options.preload)
    limits = RecycleLimits(options.recycle_jobs, options.recycle_growth_mb)
    server = Server(
        listener,
        options.entry,
        slots=options.slots,
        grace_s=options.grace_s,
        recycle_reason=lambda jobs_done: preloaded.reason_to_recycle(limits, jobs_done),
    )
    reason = server.serve()
    if reason is None:
        listener.close()
        options.socket.unlink(missing_ok=True)
        return 0
    LOG.info("Starting afresh: %s.", reason)
    _exec_again(listener, options.listener, sys.argv[1:] if arguments is None else arguments)
    return 0


def _log_to_stderr() -> None:
    """Our own logger only: how its messages look is each job's own choice."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


def _preload(module: str) -> Preloaded:
    began = time.monotonic()
    importlib.import_module(module)
    threads = _unsafe_threads()
    if threads:
        LOG.warning("%s left threads running, and a fork may hang: %s.", module, ", ".join(threads))
    gc.collect()
    gc.freeze()  # keeps the collector of a fork from writing to, and so copying, every page
    preloaded = Preloaded.now(frozenset({"ct", "__main__", module.partition(".")[0]}))
    LOG.info("Preloaded %s in %.1f s: %.0f MB.", module, time.monotonic() - began, preloaded.rss_mb)
    return preloaded


def _unsafe_threads() -> list[str]:
    """Names of this process's threads besides its first, without those whose library is made to be forked."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    names = [(task / "comm").read_text(encoding="utf-8").strip() for task in tasks]
    return [name for name in names if name not in FORK_SAFE_THREADS]


def _bound(path: Path) -> socket.socket | None:
    """A listening socket that only this user may connect to; None when another server answers there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)  # left by a server that was killed
        else:
            return None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def _inherited(descriptor: int) -> socket.socket:
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    return listener


def _exec_again(listener: socket.socket, inherited: int | None, arguments: Sequence[str]) -> None:
    listener.set_inheritable(True)
    kept = arguments[:-2] if inherited is not None else arguments
    command = [sys.executable, "-m", "ct.worker.server", *kept, "--listener", str(listener.fileno())]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606  our own interpreter and arguments; no shell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ct.worker.server", description=__doc__, add_help=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--preload", required=True, help="module to import once")
    parser.add_argument("--entry", required=True, help="module:function that a job calls with its arguments")
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1, help="jobs that run at the same time")
    parser.add_argument("--grace-s", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--recycle-jobs", type=int, default=RecycleLimits.jobs)
    parser.add_argument("--recycle-growth-mb", type=float, default=RecycleLimits.growth_mb)
    parser.add_argument("--listener", type=int, default=None, help="descriptor of the socket; set by a recycle only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
