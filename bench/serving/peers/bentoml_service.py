"""The peer BentoML: `bentoml serve bentoml_service:Flights`, its batchable API in one worker."""

from __future__ import annotations

from typing import Any

import bentoml
from saved_model import SavedModel


@bentoml.service(workers=1, traffic={"timeout": 60})
class Flights:
    """Answers rows."""

    def __init__(self) -> None:
        self._model = SavedModel()

    # A latency that is never reached: with a tight one BentoML answers 503 under load.
    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10_000)
    def predict(self, instances: list[dict[str, Any]]) -> list[float]:
        """Probabilities of rows, one each."""
        answer: list[float] = self._model.predict_rows(instances).tolist()
        return answer
