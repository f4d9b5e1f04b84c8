"""Shadow traffic: a version predicts what the champion has answered, unseen, in a process of its own.

A worker hands its requests on as lines of JSON and takes nothing back: the shadow's process counts, compares and logs by itself
(`serving.shadow`). So whatever a candidate does, even crash the interpreter, the champion answers on, and it computes only when
the processors have nothing else to do. What there is no room for is not mirrored, and counted.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ct.home import Home
    from serving.logs.prediction_files import Answered
    from serving.metrics import Metrics
    from serving.plane.table import ServedModel

LOG = logging.getLogger("ct.serving")
GATHER_S = 0.25
WRITE_ROWS = 256
MAX_WAITING_ROWS = 20_000
RESTART_S = 10.0
"""A shadow that ended by itself, such as one that ran out of memory, is started again so long after its last start."""
STOP_S = 5.0
"""For a shadow to write its log when it is told to end."""

Of = tuple[str, int]
"""A model and its shadow's version."""


class _Mirrored(NamedTuple):
    line: bytes
    rows: int


class Mirrors:
    """The shadows of one worker. `mirror` is for the event loop; `follow` and `close` are for one other thread.

    Args:
        home: CT_HOME of the shadows' processes.
        metrics: told of rows that there was no room for.
    """

    def __init__(self, home: Home, metrics: Metrics) -> None:
        self._home = home
        self._metrics = metrics
        self._mirrors: Mapping[Of, Mirror] = {}
        self._leaving: list[Mirror] = []

    def mirror(self, version: int, answered: Answered, *, kept: bool) -> None:
        """Let a shadow predict a request that has been answered; `kept` says whether the prediction log has it."""
        mirror = self._mirrors.get((answered.model, version))
        if mirror is None or not mirror.put(answered, kept=kept):
            self._metrics.shadow_dropped(answered.model, version, answered.rows.count)

    def follow(self, models: Iterable[ServedModel]) -> None:
        """Start the shadows that the models have now, and end the others."""
        wanted = {(model.name, model.shadow) for model in models if model.shadow is not None}
        kept = {of: mirror for of, mirror in self._mirrors.items() if of in wanted}
        self._leaving += [mirror for of, mirror in self._mirrors.items() if of not in wanted]
        for of in wanted - kept.keys():
            kept[of] = Mirror(self._home, self._metrics, *of)
        self._mirrors = kept
        for mirror in self._leaving:
            mirror.end()
        self._leaving = [mirror for mirror in self._leaving if not mirror.ended]

    def close(self) -> None:
        """End all of them; what waits is dropped."""
        self.follow(())
        for mirror in self._leaving:
            mirror.join()


class Mirror:
    """One shadow: a queue that the event loop fills, and a thread that keeps a process and feeds it.

    Args:
        home: CT_HOME of the process.
        metrics: told of what was taken from the queue and could not be handed over.
        model: whose shadow.
        version: which of its versions.
    """

    def __init__(self, home: Home, metrics: Metrics, model: str, version: int) -> None:
        self._home = home
        self._metrics = metrics
        self._of = model, version
        self._queue: deque[_Mirrored] = deque()
        # Each counter has one thread that changes it, so that none needs a lock.
        self._put = self._taken = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"shadow {model} {version}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Nothing of it is left."""
        return not self._thread.is_alive()

    def put(self, answered: Answered, *, kept: bool) -> bool:
        """Queue a request; False when there is no room. Never blocks."""
        count = answered.rows.count
        if self._put - self._taken + count > MAX_WAITING_ROWS:
            return False
        # Here, a few microseconds each: a thread that encodes a batch would hold the interpreter, and the event loop, for 1 ms.
        try:
            line = encode(answered, kept=kept)
        except orjson.JSONEncodeError as error:
            LOG.warning("a request cannot be mirrored: %s", error)
            return False
        self._put += count
        self._queue.append(_Mirrored(line, count))
        return True

    def end(self) -> None:
        """Tell it to end, without waiting; at once when it was told STOP_S ago."""
        self._stopped.set()
        if self._ends_at is None:
            self._ends_at = time.monotonic() + STOP_S
        elif time.monotonic() > self._ends_at and self._process is not None:
            self._process.kill()

    def join(self) -> None:
        """Tell it to end, and wait until it has."""
        self.end()
        self._thread.join(STOP_S)
        if not self.ended and self._process is not None:
            self._process.kill()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        model, version = self._of
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                code: int | str = self._keep_process()
            except OSError as error:
                code = str(error)
            if self._stopped.is_set():
                return
            LOG.error(
                "the shadow of %s, version %d, ended by itself (%s) and is started again; the champion answers on",
                *(model, version, code),
            )
            self._stopped.wait(began + RESTART_S - time.monotonic())

    def _keep_process(self) -> int:
        """Start the process and feed it until one side ends; its exit code."""
        model, version = self._of
        process = subprocess.Popen(
            command(model, version),
            stdin=subprocess.PIPE,
            env={**os.environ, "CT_HOME": str(self._home.root)},
        )
        self._process = process
        with process:
            try:
                self._feed(process)
            except BrokenPipeError:
                LOG.debug("the shadow %s reads no more", self._of)
            finally:
                _close(process)
        return process.returncode

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None:
            raise AssertionError("it was opened with a pipe")
        while not self._stopped.wait(GATHER_S) and process.poll() is None:
            while self._queue and not self._stopped.is_set():
                lines, count = self._take()
                try:
                    process.stdin.write(lines)  # blocks while the shadow is busy; then the queue fills, and drops
                    process.stdin.flush()
                except BrokenPipeError:
                    self._metrics.shadow_dropped(*self._of, count)
                    raise

    def _take(self) -> tuple[bytes, int]:
        lines: list[bytes] = []
        count = 0
        while self._queue and count < WRITE_ROWS:
            lines.append(self._queue[0].line)
            count += self._queue.popleft().rows
        self._taken += count
        return b"".join(lines), count


def command(model: str, version: int) -> list[str]:
    """What runs a shadow."""
    return [sys.executable, "-m", "serving.shadow", model, str(version)]


def encode(answered: Answered, *, kept: bool) -> bytes:
    """A line that serving.shadow reads.

    Raises:
        orjson.JSONEncodeError: it holds what JSON cannot.
    """
    rows = answered.rows
    told = (answered.request_id, answered.trace_id, answered.at, kept, answered.predictions, rows.strings)
    try:
        line: bytes = orjson.dumps((*told, rows.floats, rows.ints), option=orjson.OPT_APPEND_NEWLINE)
    except (
        orjson.JSONEncodeError
    ):  # a number without a point may be larger than JSON's 64 bits, and still a 32-bit number
        floats = [tuple(map(float, row)) for row in rows.floats]
        line = orjson.dumps((*told, floats, rows.ints), option=orjson.OPT_APPEND_NEWLINE)
    return line


def _close(process: subprocess.Popen[bytes]) -> None:
    """Let it read that there is no more, write its log and exit."""
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:  # what is left in the buffer has no reader
            LOG.debug("process %d has gone already", process.pid)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
