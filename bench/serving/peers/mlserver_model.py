"""The peer MLServer: a custom runtime, its adaptive batching turned on in model-settings.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from saved_model import OUTPUT, SavedModel

if TYPE_CHECKING:
    from mlserver.types import InferenceRequest


class Flights(MLModel):
    """Answers Open Inference Protocol requests: a tensor a feature, shape (rows,)."""

    async def load(self) -> bool:
        """Read the SavedModel."""
        self._model = SavedModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Probabilities of the rows of one batch, which MLServer made of the requests that were waiting."""
        predicted = self._model.predict_columns({tensor.name: list(tensor.data) for tensor in payload.inputs})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output(OUTPUT, predicted)])
