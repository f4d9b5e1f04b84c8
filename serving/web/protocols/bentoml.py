"""BentoML's route, as `bentoml.SyncHTTPClient` asks it: `{"model": ..., "instances": [...]}`.

The API that serving.service declares gives its clients this route's name and schema; it is answered here, like every other
protocol, under the same limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from serving.rows import BadRequestError, from_objects, kind
from serving.web.messages import Decoded, Encoded
from serving.web.protocols.body import read_object, require_rows

if TYPE_CHECKING:
    import numpy as np

    from serving.plane.version import LoadedVersion
    from serving.rows import Layout
    from serving.web.messages import Request

PROTOCOL = "bentoml"
KEYS = ("model", "instances")


def model_named(request: Request) -> str:
    """The model that the body names.

    Raises:
        BadRequestError: it names none, or is not of this protocol.
    """
    request.parsed = read_object(request.body, KEYS)
    name = request.parsed.get("model")
    if type(name) is not str:
        raise BadRequestError(f'"model" must be the name of a model, not {kind(name)}')
    return name[:100]


def decode(request: Request, layout: Layout, max_rows: int) -> Decoded:
    """Read a body, which `model_named` has parsed; serving.web.messages.Decode says what it raises."""
    payload = request.parsed if request.parsed is not None else read_object(request.body, KEYS)
    rows = require_rows(payload.get("instances"), "instances", max_rows)
    return Decoded(from_objects(layout, rows, "instances"), _encode)


def _encode(predictions: np.ndarray[Any, Any], _version: LoadedVersion) -> Encoded:
    return Encoded(orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY))
