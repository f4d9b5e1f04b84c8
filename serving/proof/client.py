"""A client on one connection that is kept: predictions of rows, and how long single rows take."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

REQUEST_TIMEOUT_S = 30.0
SHOWN_CHARACTERS = 300
HTTP_OK = 200


class AnswerError(Exception):
    """A request was not answered with predictions.

    Args:
        model: which model was asked.
        message: what came instead.
    """

    def __init__(self, model: str, message: str) -> None:
        super().__init__(message)
        self.model = model


class Client:
    """Asks one model over TensorFlow Serving's protocol, until the block ends.

    Args:
        host: where the service listens.
        port: its port.
        model: which of its models.
    """

    def __init__(self, host: str, port: int, model: str) -> None:
        self.model = model
        self._connection = HTTPConnection(host, port, timeout=REQUEST_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def predict(self, instances: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
        """Predictions of rows in one request, float64, (rows,).

        Raises:
            AnswerError: it was refused, or the answer holds not one number a row.
        """
        answer = self._ask(body_of(instances))
        predictions = np.asarray(json.loads(answer)["predictions"], np.float64)
        if predictions.shape != (len(instances),):
            raise AnswerError(self.model, f"{len(instances)} rows got predictions of shape {predictions.shape}")
        return predictions

    def timed(self, body: bytes) -> float:
        """Seconds from the request to its whole answer.

        Raises:
            AnswerError: it was refused.
        """
        began = time.perf_counter()
        self._ask(body)
        return time.perf_counter() - began

    def _ask(self, body: bytes) -> bytes:
        try:
            self._connection.request(
                "POST", f"/v1/models/{self.model}:predict", body, {"content-type": "application/json"}
            )
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            raise AnswerError(self.model, f"no answer came ({type(error).__name__}: {error})") from error
        if response.status != HTTP_OK:
            said = answer[:SHOWN_CHARACTERS].decode(errors="replace")
            raise AnswerError(self.model, f"the answer was {response.status}: {said}")
        return answer


def body_of(instances: Sequence[dict[str, Any]]) -> bytes:
    """The body that asks for predictions of rows."""
    return json.dumps({"instances": list(instances)}).encode()
