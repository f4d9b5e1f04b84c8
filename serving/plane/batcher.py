"""A micro-batcher: whatever queued while the last batch ran is the next batch. Nothing waits while it is idle.

All of it runs on the event loop's thread, but for the prediction of a large batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from serving.rows import BadRequestError, join

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from serving.rows import Rows

    Predictions = np.ndarray[Any, Any]
    Done = Callable[[Predictions | None, Exception | None], None]

LOG = logging.getLogger("ct.serving")
MAX_BATCH_ROWS = 1024
"""Rows of a batch of several requests; one larger request is a batch of its own."""


class OverloadedError(Exception):
    """The queue is full, or the request waited for too long. The message says which."""


class PredictionError(Exception):
    """The model failed on rows that are right by its signature."""


class Predicts(Protocol):
    """What a batcher needs of a version."""

    version: int
    inline_rows: int
    """Rows of the largest batch that may run on the event loop."""

    def predict(self, rows: Rows) -> Predictions:
        """Probabilities, float32, (rows,)."""
        ...


class _Waiting:
    """A request in the queue."""

    __slots__ = ("deadline", "done", "rows")

    def __init__(self, rows: Rows, done: Done, deadline: float) -> None:
        self.rows = rows
        self.done: Done | None = done
        """None once it has been called."""
        self.deadline = deadline


class Batcher:
    """The queue in front of one loaded version.

    Args:
        version: what predicts.
        threads: for batches that would hold the event loop up.
        max_waiting_rows: past so many a request is refused.
        timeout_s: how long a request may wait.
        observe: told of each batch: its rows, its seconds, and the rows that wait by then.
    """

    def __init__(
        self,
        version: Predicts,
        threads: Executor,
        *,
        max_waiting_rows: int,
        timeout_s: float,
        observe: Callable[[int, float, int], None],
    ) -> None:
        self.version = version
        self.waiting_rows = 0
        self._threads = threads
        self._max_waiting_rows = max_waiting_rows
        self._timeout_s = timeout_s
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._running: Sequence[_Waiting] = ()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def submit(self, rows: Rows, done: Done) -> None:
        """Queue a request; `done` is called once, later, with its predictions or with why there are none.

        Raises:
            OverloadedError: too many rows wait already.
        """
        # A request that is larger than the whole queue may still be a batch of its own when nothing else waits.
        if self.waiting_rows and self.waiting_rows + rows.count > self._max_waiting_rows:
            raise OverloadedError(f"{self.waiting_rows} rows wait already; {self._max_waiting_rows} may")
        now = self._loop.time()
        self._queue.append(_Waiting(rows, done, now + self._timeout_s))
        self.waiting_rows += rows.count
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout_s, self._expire)
        if not self._scheduled:
            self._scheduled = True
            # Not now, but after the other connections that are readable in this turn of the loop: they join the batch.
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        batch = self._take()
        if not batch:
            self._scheduled = False
            return
        rows = join([waiting.rows for waiting in batch])
        began = time.perf_counter()
        if rows.count <= self.version.inline_rows:
            self._finish(batch, *_predicted(self.version, rows), time.perf_counter() - began)
        else:
            self._running = batch
            future = self._loop.run_in_executor(self._threads, _predicted, self.version, rows)
            future.add_done_callback(lambda done: self._finish(batch, *done.result(), time.perf_counter() - began))

    def _take(self) -> list[_Waiting]:
        """The next batch, in order of arrival."""
        batch: list[_Waiting] = []
        count = 0
        while self._queue and (not batch or count + self._queue[0].rows.count <= MAX_BATCH_ROWS):
            waiting = self._queue.popleft()
            self.waiting_rows -= waiting.rows.count
            if waiting.done is not None:
                batch.append(waiting)
                count += waiting.rows.count
        return batch

    def _finish(
        self, batch: Sequence[_Waiting], predictions: Predictions | None, error: Exception | None, seconds: float
    ) -> None:
        self._running = ()
        if error is not None and len(batch) > 1:
            self._one_by_one(batch)
        else:
            self._observe(sum(waiting.rows.count for waiting in batch), seconds, self.waiting_rows)
            begin = 0
            for waiting in batch:
                end = begin + waiting.rows.count
                _call(waiting, None if predictions is None else predictions[begin:end], error)
                begin = end
        if self._queue:
            self._loop.call_soon(self._run)
        else:
            self._scheduled = False

    def _one_by_one(self, batch: Sequence[_Waiting]) -> None:
        """A request that the model cannot take must not fail those that it shared a batch with."""
        for waiting in batch:
            _call(waiting, *_predicted(self.version, waiting.rows))

    def _expire(self) -> None:
        """Answer what has waited for too long, also when the model hangs in a thread."""
        self._timer = None
        now = self._loop.time()
        for waiting in (*self._running, *self._queue):
            if waiting.done is not None and waiting.deadline <= now:
                _call(waiting, None, OverloadedError(f"no prediction within {self._timeout_s:g} s"))
        pending = [waiting.deadline for waiting in (*self._running, *self._queue) if waiting.done is not None]
        if pending:
            self._timer = self._loop.call_at(min(pending), self._expire)


def _predicted(version: Predicts, rows: Rows) -> tuple[Predictions | None, Exception | None]:
    """The predictions, or the model's error in words that a client may see."""
    try:
        predictions = version.predict(rows)
    except BadRequestError as error:
        return None, error
    except Exception as error:
        LOG.exception("version %d failed on %d rows", version.version, rows.count)
        text = str(error).strip().splitlines()
        return None, PredictionError(
            f"version {version.version} failed: {text[0][:200] if text else type(error).__name__}"
        )
    if predictions.shape != (rows.count,) or not np.isfinite(predictions).all():
        LOG.error("version %d gave no finite number a row for %d rows", version.version, rows.count)
        return None, PredictionError(f"version {version.version} gave no finite number for each row")
    return predictions, None


def _call(waiting: _Waiting, predictions: Predictions | None, error: Exception | None) -> None:
    done, waiting.done = waiting.done, None
    if done is not None:
        done(predictions, error)
