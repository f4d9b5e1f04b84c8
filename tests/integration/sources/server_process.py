"""A server of a test's own: on loopback, started when a test needs it, and gone with the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

START_S = 120.0
END_S = 20.0


class NoServerError(Exception):
    """What a server needs is not on this machine; the message says what."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def got(command: Sequence[str], what: str, folder: Path | None = None) -> None:
    """Run a command that fetches or builds a server.

    Raises:
        NoServerError: it failed; with its last lines.
    """
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=folder)
    if run.returncode != 0:
        raise NoServerError(f"{what}: {run.stdout.strip()[-300:]}")


@contextmanager
def listening(
    command: Sequence[str],
    port: int,
    log: Path,
    *,
    more: Mapping[str, str] | None = None,
    ready: Callable[[], bool] | None = None,
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """The command runs and answers on the port, or as `ready` says; it is ended afterwards.

    Args:
        command: stays in the foreground.
        port: of loopback.
        log: what it prints is appended.
        more: environment variables beside our own.
        ready: whether it takes requests, for servers that listen before they do.
        end: the signal that ends it without waiting for its clients.
    """
    environment = {**os.environ, **(more or {})}
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
        try:
            _await(process, log, ready or partial(_listens, port))
            yield
        finally:
            process.send_signal(end)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + START_S
    while not ready():
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-2000:]
        assert time.monotonic() < until, f"not ready within {START_S:g} s; see {log}"
        time.sleep(0.1)  # another process cannot be awaited otherwise


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
