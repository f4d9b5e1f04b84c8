"""What a client is told when its request fails: what is wrong and what to do, never a stack trace."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ct.errors import CTError
from serving.plane.batcher import OverloadedError, PredictionError
from serving.plane.data_plane import NotServedError
from serving.rows import BadRequestError, TooLargeError
from serving.web.messages import HttpError, json_response
from serving.web.protocols import mlflow_scoring

if TYPE_CHECKING:
    from serving.web.messages import Response

LOG = logging.getLogger("ct.serving")
RETRY_AFTER = ((b"retry-after", b"1"),)


def failure(error: Exception, request_id: str, protocol: str) -> Response:
    """The answer to a request that failed, in the form that its protocol has for errors.

    Args:
        error: any; what is not foreseen is logged with its traceback.
        request_id: told where only the log says more.
        protocol: empty before it is known.
    """
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, HttpError):
        status, message, headers = error.status, str(error), error.headers
    elif isinstance(error, NotServedError):
        status, message = 404, str(error)
    elif isinstance(error, BadRequestError):
        status, message = 400, str(error)
    elif isinstance(error, TooLargeError):
        status, message = 413, str(error)
    elif isinstance(error, OverloadedError):
        status, message, headers = 503, f"overloaded: {error}; try again", RETRY_AFTER
    elif isinstance(error, PredictionError):
        status, message = 500, f"{error} (request {request_id})"
    elif isinstance(error, CTError):
        status, message = 500, error.message
    else:
        LOG.error("request %s failed in an unforeseen way", request_id, exc_info=error)
        status, message = 500, f"ct failed in an unforeseen way; its log has more (request {request_id})"
    body: dict[str, Any] = {"error": message}
    if protocol == mlflow_scoring.PROTOCOL:
        body = mlflow_scoring.error(status, message)
    return json_response(status, body, headers)
