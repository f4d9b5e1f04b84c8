"""What a shadow does with mirrored requests: predict, compare with what clients were answered, count, keep."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson

from serving.logs.prediction_files import Answered
from serving.plane.batcher import predict_checked
from serving.rows import BadRequestError, Rows, join

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from serving.logs.prediction_log import PredictionLog
    from serving.metrics import Metrics
    from serving.plane.batcher import Predictions
    from serving.plane.version import LoadedVersion

LOG = logging.getLogger("ct.serving")
BATCH_ROWS = 256
MAX_PREDICTIONS = 64
"""Of one batch that fails, to find the requests that it fails on. Past this, what fails together counts as failed together."""
VARIANT = "shadow"


class _Mirrored(NamedTuple):
    answered: Answered
    """As the champion answered it."""
    kept: bool


class Candidate:
    """A loaded version that is compared with the champion."""

    def __init__(self, version: LoadedVersion, metrics: Metrics, log: PredictionLog) -> None:
        self._version = version
        self._metrics = metrics
        self._log = log

    def take(self, lines: Sequence[bytes]) -> None:
        """Predict lines that serving.plane.mirror wrote. Whatever goes wrong with them is logged, and the next are taken."""
        try:
            for batch in _batches(map(self._decoded, lines)):
                self._predict(batch)
        except Exception:
            LOG.exception("what a shadow predicted could not be counted or kept")

    def _decoded(self, line: bytes) -> _Mirrored:
        request_id, trace_id, at, kept, predictions, strings, floats, ints = orjson.loads(line)
        rows = Rows(self._version.layout, len(predictions), strings, floats, ints)
        name, version = self._version.manifest.name, self._version.version
        return _Mirrored(Answered(name, version, VARIANT, request_id, trace_id, at, rows, predictions), kept)

    def _predict(self, batch: Sequence[_Mirrored]) -> None:
        name, version = self._version.manifest.name, self._version.version
        failed, why = 0, None
        for part, predictions, error in self._apart(batch):
            if predictions is None:
                code = 400 if isinstance(error, BadRequestError) else 500
                self._metrics.mirrored(name, version, code, len(part))
                failed, why = failed + len(part), why or error
            else:
                self._compare(part, predictions)
        if why is not None:
            LOG.error(
                "version %d of %s failed as a shadow on %d of %d requests, first: %s",
                *(version, name, failed, len(batch), why),
                exc_info=why.__cause__,
            )

    def _apart(
        self, batch: Sequence[_Mirrored]
    ) -> Iterator[tuple[Sequence[_Mirrored], Predictions | None, Exception | None]]:
        """The batch as parts that were predicted, and parts that failed: single requests, within MAX_PREDICTIONS."""
        parts, predicted = [batch], 0
        while parts:
            part = parts.pop()
            predictions, error = predict_checked(self._version, join([one.answered.rows for one in part]))
            predicted += 1
            if predictions is None and len(part) > 1 and predicted < MAX_PREDICTIONS:
                middle = len(part) // 2
                parts += (part[middle:], part[:middle])
            else:
                yield part, predictions, error

    def _compare(self, part: Sequence[_Mirrored], predictions: Predictions) -> None:
        name, version = self._version.manifest.name, self._version.version
        self._metrics.mirrored(name, version, 200, len(part))
        self._metrics.predicted(name, version, VARIANT, predictions)
        answers = np.concatenate([one.answered.predictions for one in part])
        self._metrics.shadowed(name, version, np.abs(predictions - answers))
        begin = 0
        for one in part:
            end = begin + one.answered.rows.count
            if one.kept:
                self._log.add(replace(one.answered, predictions=predictions[begin:end].tolist()))
            begin = end


def _batches(requests: Iterable[_Mirrored]) -> Iterator[list[_Mirrored]]:
    """BATCH_ROWS together, or one request that has more."""
    batch: list[_Mirrored] = []
    rows = 0
    for one in requests:
        batch.append(one)
        rows += one.answered.rows.count
        if rows >= BATCH_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch
