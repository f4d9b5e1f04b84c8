"""A micro-batcher: whatever queued while the last batch ran is the next batch. Nothing waits while the loop has time to spare.

All of it runs on the event loop's thread, but for the prediction of a large batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import deque
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from serving.rows import BadRequestError, join

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from serving.plane.pace import Pace
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
        version: what predicts. Held weakly, since it has its batcher: it unloads when the last request lets go of it, and
            not when the collector comes by. Whoever waits for a version holds it.
        threads: for batches that would hold the event loop up.
        max_waiting_rows: past so many a request is refused.
        timeout_s: how long a request may wait that brings no deadline.
        pace: says when a batch waits for company.
        observe: told of each batch, also of one that failed: its rows, its seconds, and the rows that wait by then.
    """

    def __init__(
        self,
        version: Predicts,
        threads: Executor,
        *,
        max_waiting_rows: int,
        timeout_s: float,
        pace: Pace,
        observe: Callable[[int, float, int], None],
    ) -> None:
        self.waiting_rows = 0
        self._version = weakref.ref(version)
        self._threads = threads
        self._max_waiting_rows = max_waiting_rows
        self._timeout_s = timeout_s
        self._pace = pace
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._running: Sequence[_Waiting] = ()
        self._halves: list[Sequence[_Waiting]] = []
        """Of batches that failed, the next one last."""
        self._scheduled = False
        self._gathering: asyncio.TimerHandle | None = None
        """Set while the next batch waits for company."""
        self._timer: asyncio.TimerHandle | None = None
        self._expires_at = inf
        """When the timer is due, in loop time: no later than any deadline."""
        self._loop = asyncio.get_running_loop()

    def submit(self, rows: Rows, done: Done, deadline: float | None = None) -> None:
        """Queue a request; `done` is called once, later, with its predictions or with why there are none.

        Args:
            rows: at least one.
            done: called on the event loop's thread; what it raises is logged.
            deadline: in loop time; by default `timeout_s` from now. Deadlines may come in any order.

        Raises:
            OverloadedError: too many rows wait already.
        """
        # A request that is larger than the whole queue may still be a batch of its own when nothing else waits.
        if self.waiting_rows and self.waiting_rows + rows.count > self._max_waiting_rows:
            raise OverloadedError(f"{self.waiting_rows} rows wait already; {self._max_waiting_rows} may")
        if deadline is None:
            deadline = self._loop.time() + self._timeout_s
        self._queue.append(_Waiting(rows, done, deadline))
        self.waiting_rows += rows.count
        if deadline < self._expires_at:
            self._arm(deadline)
        if not self._scheduled:
            self._schedule()
        elif self._gathering is not None and not self._pace.may_come():
            self._gathering.cancel()
            self._gathering = None
            self._loop.call_soon(self._run)

    def _schedule(self) -> None:
        self._scheduled = True
        wait_s = 0.0 if self._halves else self._pace.wait_s()
        if wait_s:
            self._gathering = self._loop.call_later(wait_s, self._run)
        else:
            # Not now, but after the other connections that are readable in this turn of the loop: they join the batch.
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._gathering = None
        batch = self._take()
        if not batch:
            self._scheduled = False
            return
        version = self._version()
        if version is None:
            raise AssertionError("whoever waits for a version holds it")
        rows = join([waiting.rows for waiting in batch])
        began = time.perf_counter()
        if rows.count <= version.inline_rows:
            self._finish(batch, *predict_checked(version, rows), time.perf_counter() - began)
        else:
            self._running = batch
            future = self._loop.run_in_executor(self._threads, predict_checked, version, rows)
            future.add_done_callback(lambda done: self._finish(batch, *done.result(), time.perf_counter() - began))

    def _take(self) -> list[_Waiting]:
        """The next batch: what is left of one that failed, else what waits, in order of arrival."""
        while self._halves:
            half = [waiting for waiting in self._halves.pop() if waiting.done is not None]
            if half:
                return half
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
        self._observe(sum(waiting.rows.count for waiting in batch), seconds, self.waiting_rows)
        if error is not None and len(batch) > 1:
            # A request that the model cannot take must not fail those that it shares a batch with: each half is a batch then,
            # until the request is alone. One among 1,000 costs 20 predictions.
            middle = len(batch) // 2
            self._halves += (batch[middle:], batch[:middle])
        else:
            if isinstance(error, PredictionError):
                LOG.error("%s", error, exc_info=error.__cause__)
            begin = 0
            for waiting in batch:
                end = begin + waiting.rows.count
                _call(waiting, None if predictions is None else predictions[begin:end], error)
                begin = end
        if self._queue or self._halves:
            self._schedule()
        else:
            self._scheduled = False

    def _expire(self) -> None:
        """Answer what has waited for too long, also when the model hangs in a thread."""
        self._timer, self._expires_at = None, inf
        now = self._loop.time()
        for waiting in self._unanswered():
            if waiting.deadline <= now:
                _call(waiting, None, OverloadedError(f"no prediction within {self._timeout_s:g} s"))
        # Whoever was told may have submitted its next request, which has set the timer.
        earliest = min((waiting.deadline for waiting in self._unanswered()), default=inf)
        if earliest < self._expires_at:
            self._arm(earliest)

    def _arm(self, deadline: float) -> None:
        """Let the one timer be due at a deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expire)
        self._expires_at = deadline

    def _unanswered(self) -> list[_Waiting]:
        everyone = chain(self._running, chain.from_iterable(self._halves), self._queue)
        return [waiting for waiting in everyone if waiting.done is not None]


def predict_checked(version: Predicts, rows: Rows) -> tuple[Predictions | None, Exception | None]:
    """The predictions, a finite number a row; or a BadRequestError or PredictionError, whose words a client may see."""
    try:
        predictions = version.predict(rows)
        if predictions.shape == (rows.count,) and np.isfinite(predictions).all():
            return predictions, None
    except BadRequestError as error:
        return None, error
    except Exception as error:  # noqa: BLE001  a model may raise anything; whoever gives the request up logs it
        text = str(error).strip().splitlines()
        failed = PredictionError(f"version {version.version} failed: {text[0][:200] if text else type(error).__name__}")
        failed.__cause__ = error
        return None, failed
    return None, PredictionError(f"version {version.version} gave no finite number for each row")


def _call(waiting: _Waiting, predictions: Predictions | None, error: Exception | None) -> None:
    done, waiting.done = waiting.done, None
    if done is None:
        return
    try:
        done(predictions, error)
    except Exception:  # one request's trouble must not stop the others, nor the batches to come
        LOG.exception("a request could not take its answer")
