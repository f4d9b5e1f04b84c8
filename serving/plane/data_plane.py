"""The data plane under every protocol: who answers, in which batch, and what is remembered of it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.logs.prediction_files import Answered
from serving.plane.batcher import Batcher
from serving.plane.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ct.contracts import Canary
    from ct.settings import Settings
    from serving.logs.prediction_log import PredictionLog
    from serving.metrics import Metrics
    from serving.plane.batcher import Done
    from serving.plane.mirror import Mirrors
    from serving.plane.table import ModelTable, ServedModel
    from serving.plane.version import LoadedVersion
    from serving.rows import Rows

PREDICT_THREADS = 2
CHAMPION, CANARY, PINNED = "champion", "canary", "pinned"
LABELS = (CHAMPION, CANARY)


class NotServedError(Exception):
    """No such model, version or label is loaded. The message names what is."""


class Chosen(NamedTuple):
    """Who answers a request."""

    model: ServedModel
    version: LoadedVersion
    variant: str
    by_feature: str | None = None
    """The feature whose value decides between champion and canary, once the rows are known; see `settle`."""


class DataPlane:
    """What the routes ask for predictions. Lives on the event loop's thread of one worker.

    `model`, `pinned`, `choose`, `settle` and `gauge` change nothing here, and may be called from any thread.
    """

    def __init__(
        self, table: ModelTable, settings: Settings, metrics: Metrics, log: PredictionLog, mirrors: Mirrors
    ) -> None:
        self._table = table
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._mirrors = mirrors
        self.pace = Pace(lambda: False)
        """Whoever knows the connections sets its `may_come`."""
        self.threads = ThreadPoolExecutor(PREDICT_THREADS, thread_name_prefix="predict")

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What serves now."""
        return self._table.models

    def model(self, name: str) -> ServedModel:
        """A model that serves.

        Raises:
            NotServedError: it does not.
        """
        model = self._table.models.get(name)
        if model is None:
            known = ", ".join(sorted(self._table.models)) or "none yet"
            raise NotServedError(f'no model "{name}" serves; models: {known}')
        return model

    def pinned(self, model: ServedModel, version: int | None, label: str | None) -> LoadedVersion:
        """The version that a path names.

        Raises:
            NotServedError: it is not loaded.
        """
        if label is not None:
            if label == CHAMPION:
                return model.serving
            if label == CANARY and model.canary is not None:
                return model.loaded[model.canary.version]
            raise NotServedError(
                f'"{model.name}" has no version with the label "{label}" now; labels: {", ".join(LABELS)}'
            )
        found = model.loaded.get(version) if version is not None else model.serving
        if found is None:
            loaded = ", ".join(map(str, sorted(model.loaded)))
            raise NotServedError(f'version {version} of "{model.name}" is not loaded; loaded: {loaded}')
        return found

    def choose(self, name: str, version: int | None, label: str | None, header: Any) -> Chosen:
        """Who answers a request.

        Args:
            name: the model.
            version: a version that the path names.
            label: a label that the path names.
            header: header name (lower-case bytes) -> its first value or None.

        Raises:
            NotServedError: the model or version is not there.
        """
        model = self.model(name)
        if version is not None or label is not None:
            return Chosen(model, self.pinned(model, version, label), PINNED)
        if model.canary is None:
            return Chosen(model, model.serving, CHAMPION)
        source, _, key = model.canary.key.partition(":")
        if source == "feature":
            return Chosen(model, model.serving, CHAMPION, by_feature=key)
        given = header(key.lower().encode())
        return _keyed(model, model.canary, given.decode("latin-1") if given is not None else None)

    def settle(self, chosen: Chosen, rows: Rows) -> Chosen:
        """The choice where a feature of the first row decides: a request is answered by one version."""
        if chosen.by_feature is None or chosen.model.canary is None:
            return chosen
        return _keyed(chosen.model, chosen.model.canary, rows.key(chosen.by_feature))

    def predict(self, version: LoadedVersion, rows: Rows, done: Done, deadline: float | None = None) -> None:
        """Predict, in a batch with whatever else waits; `done` is called once.

        Args:
            version: who. The caller holds it until `done` is called.
            rows: what.
            done: gets the predictions, or why there are none.
            deadline: when it is too late, in loop time; by default serving_timeout_s from now.

        Raises:
            OverloadedError: too much waits already.
        """
        batcher = version.batcher
        if batcher is None:
            batcher = version.batcher = Batcher(
                version,
                self.threads,
                max_waiting_rows=self._settings.serving_max_waiting_rows,
                timeout_s=self._settings.serving_timeout_s,
                pace=self.pace,
                observe=self._metrics.batches_of(version.manifest.name, version.version),
            )
        batcher.submit(rows, done, deadline)

    async def predicted(self, version: LoadedVersion, rows: Rows) -> np.ndarray[Any, Any]:
        """The same for callers that await: predictions, float32 (rows,).

        Raises:
            OverloadedError: too much waits already, or it took too long.
            PredictionError: the model failed.
        """
        future: asyncio.Future[np.ndarray[Any, Any]] = asyncio.get_running_loop().create_future()

        def done(predictions: np.ndarray[Any, Any] | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if predictions is None:
                future.set_exception(error or RuntimeError("neither predictions nor an error"))
            else:
                future.set_result(predictions)

        self.predict(version, rows, done)
        return await future

    def remember(
        self,
        chosen: Chosen,
        rows: Rows,
        predictions: np.ndarray[Any, Any],
        *,
        request_id: str,
        trace_id: str | None,
        at: float,
    ) -> None:
        """After the answer has gone out: the distribution, the log, and the shadow's turn.

        Args:
            chosen: who answered.
            rows: what was asked.
            predictions: what was answered, float32 (rows,).
            request_id: under which it is kept.
            trace_id: the trace it belongs to.
            at: when it arrived, Unix seconds.
        """
        name, version = chosen.model.name, chosen.version.version
        self._metrics.predicted(name, version, chosen.variant, predictions)
        kept = self._log.wants(request_id)
        shadow = chosen.model.shadow if chosen.variant != PINNED else None
        if not kept and shadow is None:
            return
        answered = Answered(name, version, chosen.variant, request_id, trace_id, at, rows, predictions.tolist())
        if kept:
            self._log.add(answered)
        if shadow is not None:
            self._mirrors.mirror(shadow, answered, kept=kept)

    def gauge(self) -> None:
        """Tell the metrics how many rows wait, also where a model hangs and no batch ends; for about once a second."""
        for model in self._table.models.values():
            for version in model.loaded.values():
                if version.batcher is not None:
                    self._metrics.waits(model.name, version.version, version.batcher.waiting_rows)

    def close(self) -> None:
        """Let the threads go; called when no request is in flight any more."""
        self.threads.shutdown()


def _keyed(model: ServedModel, canary: Canary, key: str | None) -> Chosen:
    version = model.for_key(key)
    return Chosen(model, version, CANARY if version.version == canary.version else CHAMPION)
