"""One job from the control plane: through the warm worker, or as a process of its own when there is none."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct import planes
from ct.errors import WorkerLostError
from ct.worker import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST_REPLY_S = 60.0
"""A server that recycles itself answers after its imports: 7 s on two free cores, more on a loaded machine."""
GRACE_S = 10.0
"""Between SIGTERM and SIGKILL for a job without a server; the server has a grace of its own."""
CHUNK_BYTES = 65_536


class NoWorkerError(Exception):
    """There is no warm worker that takes the job, and nothing was started."""


class CancelSignal:
    """A cancellation that another thread or a signal handler may set at any time: a byte through a socket, no lock."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self._writer.settimeout(0)
        self.is_set = False

    def set(self) -> None:
        """Ask the execution to end its job. Calling it again, or after the end, is safe."""
        self.is_set = True
        with contextlib.suppress(OSError):  # full or closed: the execution has been told, or is over
            self._writer.send(b"x")

    def close(self) -> None:
        """Free the sockets, once the execution is over."""
        self.reader.close()
        self._writer.close()


@dataclass(frozen=True)
class Execution:
    """One call of an entry point in the training plane."""

    entry: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    on_line: Callable[[str], None]
    cancel: CancelSignal = field(default_factory=CancelSignal)

    def run(self, worker_socket: Path) -> protocol.Ended:
        """Run to the end, in the warm worker where one answers.

        Raises:
            WorkerLostError: the worker went away while the job ran. The job is gone too.
            PlaneMissingError: there is no worker and no training plane.
        """
        try:
            return self.run_in_worker(worker_socket)
        except NoWorkerError as error:
            self.on_line(
                f"WARNING: no warm worker ({error}). The node runs in a process of its own, which first imports TFX: "
                "several seconds a node. `ct status` says how the worker is."
            )
        return self.run_alone()

    def run_in_worker(self, worker_socket: Path) -> protocol.Ended:
        """Raises NoWorkerError as long as nothing was started, WorkerLostError afterwards."""
        with _connected(worker_socket) as connection, selectors.DefaultSelector() as selector:
            _send(connection, protocol.Run(argv=self.argv, env=self.env, cwd=str(self.cwd), entry=self.entry))
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self.cancel.reader, selectors.EVENT_READ)
            started = False
            for reply in _replies(connection, selector, self.cancel):
                if isinstance(reply, protocol.Line):
                    self.on_line(reply.text)
                elif isinstance(reply, protocol.Started):
                    started = True
                elif isinstance(reply, protocol.Queued):
                    self.on_line(f"The warm worker is busy; {reply.ahead} other nodes wait before this one.")
                elif isinstance(reply, protocol.Ended):
                    return reply
                elif isinstance(reply, protocol.Refused):
                    raise NoWorkerError(f"it refused the job: {reply.reason}")
            if not started:
                raise NoWorkerError("it went away before the job began")
            raise WorkerLostError(
                f"The warm worker went away while {self.entry} {' '.join(self.argv)} ran; the node's process ended "
                "with it. The daemon restarts the worker; another try of the task will work.",
                socket=str(worker_socket),
            )

    def run_alone(self) -> protocol.Ended:
        """Run in a process of its own session, and end that whole session when cancelled or interrupted."""
        began = time.monotonic()
        # `ct.worker.child` ends with this process, even when that is killed; `python -m` on the entry would live on.
        python = str(planes.python(planes.Plane.TRAINING))
        command = [python, "-m", "ct.worker.child", str(os.getpid()), self.entry, *self.argv]
        with subprocess.Popen(
            command,
            cwd=self.cwd,
            env=_inheritable() | self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        ) as process:
            try:
                self._follow(process)
            finally:
                kill_group(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            code = process.returncode = os.waitstatus_to_exitcode(status)
        return ended(code, time.monotonic() - began, usage.ru_maxrss)

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Pass output on until the process has exited; it is not waited for, so that its group's id stays taken."""
        if process.stdout is None:  # mypy cannot know; PIPE was asked for
            raise AssertionError
        lines = protocol.LineBuffer(protocol.MAX_LINE_BYTES)
        output = process.stdout.fileno()
        os.set_blocking(output, False)
        exited = os.pidfd_open(process.pid)
        kill_at: float | None = None
        try:
            with selectors.DefaultSelector() as selector:
                for source in (output, exited, self.cancel.reader):
                    selector.register(source, selectors.EVENT_READ)
                while True:
                    wait_s = None if kill_at is None else max(0.0, kill_at - time.monotonic())
                    ready = [key.fileobj for key, _ in selector.select(wait_s)]
                    if self.cancel.reader in ready:
                        selector.unregister(self.cancel.reader)
                        kill_group(process.pid, signal.SIGTERM)
                        kill_at = time.monotonic() + GRACE_S
                    if output in ready and not self._pass_on(output, lines):
                        selector.unregister(output)
                    if exited in ready:
                        break
                    if kill_at is not None and time.monotonic() >= kill_at:
                        kill_group(process.pid, signal.SIGKILL)
            kill_group(process.pid, signal.SIGKILL)  # grandchildren, which may hold the pipe open
            self._drain(output, lines)
        finally:
            os.close(exited)

    def _pass_on(self, output: int, lines: protocol.LineBuffer) -> bool:
        """False at the end of the output."""
        try:
            data = os.read(output, CHUNK_BYTES)
        except BlockingIOError:
            return True
        for line in lines.feed(data) if data else lines.rest():
            self.on_line(text(line))
        return bool(data)

    def _drain(self, output: int, lines: protocol.LineBuffer) -> None:
        """Pass on what still stands in the pipe."""
        for chunk in drained(output):
            for line in lines.feed(chunk):
                self.on_line(text(line))
        for line in lines.rest():
            self.on_line(text(line))


def ping(worker_socket: Path, timeout_s: float) -> protocol.Pong:
    """Ask the warm worker how it is.

    Raises:
        NoWorkerError: it did not answer in time.
    """
    try:
        with _connected(worker_socket) as connection, connection.makefile("rb") as replies:
            connection.settimeout(timeout_s)
            connection.sendall(protocol.encode(protocol.Ping()))
            reply = protocol.decode(replies.readline())
    except (OSError, protocol.ProtocolError) as error:
        raise NoWorkerError(str(error)) from error
    if not isinstance(reply, protocol.Pong):
        raise NoWorkerError(f"it answered {reply.kind}")
    return reply


def ended(code: int, seconds: float, max_rss_kib: int) -> protocol.Ended:
    """The Ended message for an exit code as Python counts it: negative for a signal."""
    return protocol.Ended(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        seconds=seconds,
        peak_rss_mb=max_rss_kib / 1024,
    )


def text(line: bytes) -> str:
    """One line of output for a log."""
    return line.decode("utf-8", errors="replace").rstrip("\r")


def _inheritable() -> dict[str, str]:
    """This process's environment without what belongs to Airflow (its secrets too) or to this interpreter."""
    strange = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(strange)}


def _connected(worker_socket: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(FIRST_REPLY_S)
    try:
        connection.connect(os.fspath(worker_socket))
    except OSError as error:
        connection.close()
        raise NoWorkerError(f"{worker_socket}: {error.strerror or error}") from error
    return connection


def _send(connection: socket.socket, message: protocol.Message) -> None:
    try:
        connection.sendall(protocol.encode(message))
    except OSError as error:
        raise NoWorkerError(str(error)) from error


def _replies(
    connection: socket.socket, selector: selectors.BaseSelector, cancel: CancelSignal
) -> Iterator[protocol.AnyMessage]:
    """Yield what the server says until it closes, and pass a cancellation on.

    Raises:
        NoWorkerError: the server did not say a first word in time.
    """
    lines = protocol.LineBuffer(protocol.MAX_MESSAGE_BYTES)
    wait_s: float | None = FIRST_REPLY_S
    while True:
        ready = [key.fileobj for key, _ in selector.select(wait_s)]
        if not ready:
            raise NoWorkerError(f"it did not answer within {FIRST_REPLY_S:.0f} s")
        if cancel.reader in ready:
            selector.unregister(cancel.reader)
            with contextlib.suppress(OSError):  # a server that is gone shows in the read below
                connection.sendall(protocol.encode(protocol.Cancel()))
        if connection in ready:
            try:
                data = connection.recv(CHUNK_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                return
            wait_s = None
            yield from (protocol.decode(line) for line in lines.feed(data))


def drained(descriptor: int, most: int = 16) -> Iterator[bytes]:
    """Chunks that a non-blocking descriptor holds now; `most` bounds a writer that never stops."""
    for _ in range(most):
        try:
            chunk = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            return
        yield chunk


def kill_group(pid: int, number: int) -> None:
    """Signal a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
