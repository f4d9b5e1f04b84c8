"""Shadow traffic: a version predicts what the champion has answered, unseen, in its own time.

Rows gather for a while and run as few large batches in a thread, so that mirroring costs the champion's clients next to
nothing. What there is no room for is not mirrored, and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serving.plane.batcher import predict_checked
from serving.rows import BadRequestError, join

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serving.logs.prediction_files import Answered
    from serving.logs.prediction_log import PredictionLog
    from serving.metrics import Metrics
    from serving.plane.batcher import Predictions
    from serving.plane.version import LoadedVersion

LOG = logging.getLogger("ct.serving")
GATHER_S = 0.05
PAUSE_S = 0.01
"""Between two batches, however many rows wait: the event loop comes first."""
BATCH_ROWS = 128
"""A batch of so many holds the interpreter for some tenths of a millisecond, which a request hardly notices."""
MAX_WAITING_ROWS = 20_000
MAX_PREDICTIONS = 64
"""Of one batch that fails, to find the requests that it fails on. A candidate that fails everywhere must not take the time of
the champion's clients: past this, what fails together counts as failed together."""
VARIANT = "shadow"


class _Mirrored(NamedTuple):
    version: LoadedVersion
    answered: Answered
    kept: bool


class Shadow:
    """The mirrored requests of one worker."""

    def __init__(self, metrics: Metrics, log: PredictionLog) -> None:
        self._metrics = metrics
        self._log = log
        self._queue: deque[_Mirrored] = deque()
        self._rows = 0
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")

    def mirror(self, version: LoadedVersion, answered: Answered, *, kept: bool) -> None:
        """Let a version predict a request that has been answered; `kept` says whether the prediction log has it."""
        if self._rows + answered.rows.count > MAX_WAITING_ROWS:
            self._metrics.shadow_dropped(answered.model, version.version, answered.rows.count)
            return
        self._queue.append(_Mirrored(version, answered, kept))
        self._rows += answered.rows.count
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_later(GATHER_S, self._run)

    def close(self) -> None:
        """Finish what runs and drop what waits."""
        self._queue.clear()
        self._thread.shutdown()

    def _run(self) -> None:
        batch: list[_Mirrored] = []
        count = 0
        while self._queue and (not batch or (count < BATCH_ROWS and self._queue[0].version is batch[0].version)):
            batch.append(self._queue.popleft())
            count += batch[-1].answered.rows.count
        self._rows -= count
        loop = asyncio.get_running_loop()
        if not batch:
            self._busy = False
            return
        loop.run_in_executor(self._thread, self._predict, batch).add_done_callback(self._predicted)

    def _predicted(self, done: asyncio.Future[list[Answered]]) -> None:
        try:
            for shadowed in done.result():
                self._log.add(shadowed)
        except Exception:  # whatever one batch meets, the next is predicted
            LOG.exception("what a shadow predicted could not be counted or kept")
        finally:
            delay = PAUSE_S if self._rows >= BATCH_ROWS else GATHER_S
            asyncio.get_running_loop().call_later(delay, self._run)

    def _predict(self, batch: Sequence[_Mirrored]) -> list[Answered]:
        """In the thread. What the prediction log shall have."""
        version = batch[0].version
        kept: list[Answered] = []
        failed, why = 0, None
        for part, predictions, error in _apart(batch):
            if predictions is None:
                code = 400 if isinstance(error, BadRequestError) else 500
                self._metrics.mirrored(version.manifest.name, version.version, code, len(part))
                failed, why = failed + len(part), why or error
            else:
                kept += self._compare(part, predictions)
        if why is not None:
            LOG.error(
                "version %d of %s failed as a shadow on %d of %d requests, first: %s",
                *(version.version, version.manifest.name, failed, len(batch), why),
                exc_info=why.__cause__,
            )
        return kept

    def _compare(self, part: Sequence[_Mirrored], predictions: Predictions) -> list[Answered]:
        name, version = part[0].version.manifest.name, part[0].version.version
        self._metrics.mirrored(name, version, 200, len(part))
        self._metrics.predicted(name, version, VARIANT, predictions)
        rows = len(predictions)
        answers = np.fromiter(chain.from_iterable(one.answered.predictions for one in part), np.float64, rows)
        self._metrics.shadowed(name, version, np.abs(predictions - answers))
        kept, end = [], 0
        for one in part:
            begin, end = end, end + one.answered.rows.count
            if one.kept:
                own = predictions[begin:end].tolist()
                kept.append(replace(one.answered, version=version, variant=VARIANT, predictions=own))
        return kept


def _apart(batch: Sequence[_Mirrored]) -> Iterator[tuple[Sequence[_Mirrored], Predictions | None, Exception | None]]:
    """The batch as parts that its version predicted, and parts that it failed on: single requests, within MAX_PREDICTIONS."""
    parts, predicted = [batch], 0
    while parts:
        part = parts.pop()
        predictions, error = predict_checked(part[0].version, join([one.answered.rows for one in part]))
        predicted += 1
        if predictions is None and len(part) > 1 and predicted < MAX_PREDICTIONS:
            middle = len(part) // 2
            parts += (part[middle:], part[:middle])
        else:
            yield part, predictions, error
