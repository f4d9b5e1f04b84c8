"""The warm worker's loop: one thread, one selector, because a fork of a process with threads may deadlock in its child."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from ct.worker import protocol
from ct.worker.execution import CHUNK_BYTES, text
from ct.worker.jobs import RunningJob, end_strays, fork_job
from ct.worker.recycle import rss_mb

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("ct.worker")
TICK_S = 2.0
"""How often an idle server looks whether its sources changed: a few dozen stat calls."""
SILENT_CLIENT_S = 30.0
"""A client that asks nothing, or does not read its job's end, for so long is dropped."""
UNSENT_MAX_BYTES = 1024 * 1024
"""When so much waits for a slow client, its job's output is left in the pipe, and the job waits in its write."""


class Connection:
    """One client and its job."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = protocol.LineBuffer(protocol.MAX_MESSAGE_BYTES)
        self.unsent = bytearray()
        self.run: protocol.Run | None = None
        self.job: RunningJob | None = None
        self.reading_output = False
        self.drop_at_s: float | None = time.monotonic() + SILENT_CLIENT_S
        self.close_when_sent = False
        self.gone = False


class Server:
    """Accepts jobs on a listening socket until it is stopped or due for a recycle."""

    def __init__(
        self,
        listener: socket.socket,
        entry: str,
        *,
        slots: int,
        grace_s: float,
        recycle_reason: Callable[[int], str | None],
    ) -> None:
        self._listener = listener
        self._entry = entry
        self._slots = slots
        self._grace_s = grace_s
        self._recycle_reason = recycle_reason
        self._connections: list[Connection] = []
        self._waiting: deque[Connection] = deque()
        self._jobs_done = 0
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_writer = socket.socketpair()

    def serve(self) -> str | None:
        """Run until SIGTERM or SIGINT (returns None), or until idle and due for a recycle (returns why)."""
        for sock in (self._listener, self._wakeup, self._wakeup_writer):
            sock.settimeout(0)
        signal.set_wakeup_fd(self._wakeup_writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakeup, selectors.EVENT_READ, lambda _: self._wakeup.recv(CHUNK_BYTES))
        while not (self._stopping and not self._running()):
            self._start_waiting()
            if not self._connections and not self._stopping:
                end_strays()
                # Before the next accept, so that nobody's job runs on old code and no connection is lost.
                reason = self._recycle_reason(self._jobs_done)
                if reason:
                    self._release()
                    return reason
            for key, mask in self._selector.select(self._wait_s()):
                # A handler may have closed what a later event of this round is about, and its number may be taken anew.
                if self._selector.get_map().get(key.fd) is key:
                    key.data(mask)
            self._enforce_deadlines()
        self._release()
        return None

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _release(self) -> None:
        signal.set_wakeup_fd(-1)
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._wakeup.close()
        self._wakeup_writer.close()

    def _running(self) -> list[Connection]:
        return [connection for connection in self._connections if connection.job is not None]

    def _wait_s(self) -> float:
        deadlines = [c.drop_at_s for c in self._connections] + [c.job.kill_at_s for c in self._connections if c.job]
        now_s = time.monotonic()
        return max(0.0, min([TICK_S, *(deadline - now_s for deadline in deadlines if deadline is not None)]))

    def _enforce_deadlines(self) -> None:
        for connection in list(self._connections):
            if connection.job is not None:
                if self._stopping:
                    connection.job.terminate(self._grace_s)
                connection.job.kill_if_due()
            elif connection.drop_at_s is not None and time.monotonic() >= connection.drop_at_s:
                self._drop(connection)

    def _accept(self, _mask: int) -> None:
        with suppress(BlockingIOError, ConnectionError):
            sock, _ = self._listener.accept()
            sock.settimeout(0)
            connection = Connection(sock)
            self._connections.append(connection)
            self._selector.register(sock, selectors.EVENT_READ, lambda mask: self._on_client(connection, mask))

    def _on_client(self, connection: Connection, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(connection)
        if mask & selectors.EVENT_READ and not connection.gone:
            try:
                data = connection.sock.recv(CHUNK_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._client_gone(connection)
            for line in connection.received.feed(data):
                self._take(connection, line)

    def _take(self, connection: Connection, line: bytes) -> None:
        try:
            message = protocol.decode(line)
        except protocol.ProtocolError as error:
            self._say_last(connection, protocol.Refused(reason=str(error)))
            return
        if isinstance(message, protocol.Ping):
            self._say_last(
                connection,
                protocol.Pong(
                    pid=os.getpid(),
                    running=len(self._running()),
                    queued=len(self._waiting),
                    jobs_done=self._jobs_done,
                    rss_mb=rss_mb(),
                ),
            )
        elif isinstance(message, protocol.Run) and connection.run is None:
            connection.run = message
            connection.drop_at_s = None
            self._waiting.append(connection)
            if len(self._running()) >= self._slots:
                self._say(connection, protocol.Queued(ahead=len(self._waiting) - 1))
        elif isinstance(message, protocol.Cancel):
            self._cancel(connection)

    def _cancel(self, connection: Connection) -> None:
        if connection.job is not None:
            connection.job.terminate(self._grace_s)
        elif connection in self._waiting:
            self._waiting.remove(connection)
            never_ran = protocol.Ended(exit_code=None, signal=int(signal.SIGTERM), seconds=0, peak_rss_mb=0)
            self._say_last(connection, never_ran)

    def _client_gone(self, connection: Connection) -> None:
        connection.gone = True
        connection.unsent.clear()
        if connection.job is None:
            self._drop(connection)
            return
        self._selector.unregister(connection.sock)
        LOG.warning("The client of job %d is gone; the job is ended.", connection.job.pid)
        connection.job.terminate(self._grace_s)

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running()) < self._slots and not self._stopping:
            self._start(self._waiting.popleft())

    def _start(self, connection: Connection) -> None:
        run = connection.run
        if run is None:
            return
        self._say(connection, protocol.Started())
        if connection.gone:
            return
        try:
            job = fork_job(run, self._entry, self._descriptors())
        except OSError as error:
            self._say_last(connection, protocol.Refused(reason=f"cannot fork: {error.strerror}"))
            return
        LOG.info("job %d began: %s", job.pid, " ".join(run.argv))
        connection.job = job
        self._selector.register(job.exited, selectors.EVENT_READ, lambda _: self._on_exit(connection, job))
        self._follow_output(connection, job)

    def _descriptors(self) -> list[int]:
        """What a fork must not keep: open, they would hide from a client that the server is gone."""
        jobs = [connection.job for connection in self._connections if connection.job is not None]
        return [
            *(key.fd for key in self._selector.get_map().values() if isinstance(key.fileobj, socket.socket)),
            *(connection.sock.fileno() for connection in self._connections if connection.gone),
            *(descriptor for job in jobs for descriptor in (job.output, job.exited)),
            self._wakeup_writer.fileno(),
            self._selector.fileno(),
        ]

    def _follow_output(self, connection: Connection, job: RunningJob) -> None:
        connection.reading_output = True
        self._selector.register(job.output, selectors.EVENT_READ, lambda _: self._on_output(connection, job))

    def _on_output(self, connection: Connection, job: RunningJob) -> None:
        lines = job.read()
        if lines is None or len(connection.unsent) > UNSENT_MAX_BYTES:
            self._selector.unregister(job.output)
            connection.reading_output = lines is None  # at its end there is nothing to come back to
        for line in lines or ():
            self._say(connection, protocol.Line(text=text(line)))

    def _on_exit(self, connection: Connection, job: RunningJob) -> None:
        self._selector.unregister(job.exited)
        with suppress(KeyError):  # not followed any more
            self._selector.unregister(job.output)
        lines, end = job.finish()
        connection.job = None
        self._jobs_done += 1
        how = f"exit code {end.exit_code}" if end.signal is None else f"signal {end.signal}"
        LOG.info("job %d ended: %s, %.1f s, %.0f MB", job.pid, how, end.seconds, end.peak_rss_mb)
        if connection.gone:
            self._drop(connection)
            return
        for line in lines:
            self._say(connection, protocol.Line(text=text(line)))
        self._say_last(connection, end)

    def _say(self, connection: Connection, message: protocol.Message) -> None:
        if not connection.gone:
            connection.unsent += protocol.encode(message)
            self._flush(connection)

    def _say_last(self, connection: Connection, message: protocol.Message) -> None:
        connection.close_when_sent = True
        connection.drop_at_s = time.monotonic() + SILENT_CLIENT_S
        self._say(connection, message)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.unsent:
                del connection.unsent[: connection.sock.send(connection.unsent[:CHUNK_BYTES])]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._client_gone(connection)
            return
        if not connection.unsent and connection.close_when_sent:
            self._drop(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        self._selector.modify(connection.sock, events, lambda mask: self._on_client(connection, mask))
        if connection.job is not None and not connection.reading_output and not connection.unsent:
            self._follow_output(connection, connection.job)

    def _drop(self, connection: Connection) -> None:
        connection.gone = True
        with suppress(KeyError, ValueError):  # a client that was gone is registered no more
            self._selector.unregister(connection.sock)
        connection.sock.close()
        if connection in self._waiting:
            self._waiting.remove(connection)
        if connection in self._connections:
            self._connections.remove(connection)
