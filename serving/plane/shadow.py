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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from serving.rows import join

if TYPE_CHECKING:
    from serving.logs.prediction_files import Answered
    from serving.logs.prediction_log import PredictionLog
    from serving.metrics import Metrics
    from serving.plane.version import LoadedVersion

LOG = logging.getLogger("ct.serving")
GATHER_S = 0.1
BATCH_ROWS = 256
MAX_WAITING_ROWS = 10_000
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
            self._metrics.lost("shadow", answered.rows.count)
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
        for shadowed in done.result():
            self._log.add(shadowed)
        delay = 0 if self._rows >= BATCH_ROWS else GATHER_S
        asyncio.get_running_loop().call_later(delay, self._run)

    def _predict(self, batch: list[_Mirrored]) -> list[Answered]:
        """In the thread. What the prediction log shall have."""
        version = batch[0].version
        name = version.manifest.name
        try:
            predictions = version.predict(join([one.answered.rows for one in batch]))
        except Exception:  # the shadow's failures are what the shadow is there to find
            LOG.exception("version %d of %s failed as a shadow", version.version, name)
            self._metrics.mirrored(name, version.version, 500, len(batch))
            return []
        self._metrics.mirrored(name, version.version, 200, len(batch))
        self._metrics.predicted(name, version.version, VARIANT, predictions)
        answers = np.concatenate([one.answered.predictions for one in batch])
        self._metrics.shadowed(name, version.version, np.abs(predictions - answers))
        ends = np.cumsum([one.answered.rows.count for one in batch])[:-1]
        return [
            replace(one.answered, version=version.version, variant=VARIANT, predictions=part.tolist())
            for one, part in zip(batch, np.split(predictions, ends), strict=True)
            if one.kept
        ]
