"""TensorFlow Serving's REST format: `instances` is a list of rows, `inputs` a list a feature.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from serving.rows import OUTPUT, SIGNATURE, BadRequestError, from_columns, from_objects
from serving.web.messages import Decoded, Encoded
from serving.web.protocols.body import limit_columns, read_object, require_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from serving.plane.version import LoadedVersion
    from serving.rows import Layout
    from serving.web.messages import Request

KEYS = ("instances", "inputs", "signature_name")
DTYPES = {"string": "DT_STRING", "float32": "DT_FLOAT", "int64": "DT_INT64"}


def decode(request: Request, layout: Layout, max_rows: int) -> Decoded:
    """Read a `:predict` body; serving.web.messages.Decode says what it raises."""
    payload = read_object(request.body, KEYS)
    if payload.get("signature_name", SIGNATURE) != SIGNATURE:
        raise BadRequestError(f'"signature_name" must be "{SIGNATURE}", the only signature that is served')
    if ("instances" in payload) == ("inputs" in payload):
        raise BadRequestError('the body must hold "instances" (rows) or "inputs" (columns), and not both')
    if "instances" in payload:
        rows = require_rows(payload["instances"], "instances", max_rows)
        return Decoded(from_objects(layout, rows, "instances"), _encode_rows)
    columns = limit_columns(payload["inputs"], "inputs", max_rows)
    return Decoded(from_columns(layout, columns, "inputs"), _encode_columns)


def status(versions: Sequence[int]) -> dict[str, Any]:
    """GetModelStatusResponse, newest version first."""
    state = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [{"version": str(version), **state} for version in sorted(versions, reverse=True)]}


def metadata(version: LoadedVersion) -> dict[str, Any]:
    """GetModelMetadataResponse, of the one signature that is served."""
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    inputs = {
        feature.name: {"dtype": DTYPES[feature.dtype], "tensor_shape": shape, "name": feature.name}
        for feature in version.layout.features
    }
    outputs = {OUTPUT: {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": OUTPUT}}
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    return {
        "model_spec": {"name": version.manifest.name, "signature_name": "", "version": str(version.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _encode_rows(predictions: np.ndarray[Any, Any], _version: LoadedVersion) -> Encoded:
    return Encoded(orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY))


def _encode_columns(predictions: np.ndarray[Any, Any], _version: LoadedVersion) -> Encoded:
    return Encoded(orjson.dumps({"outputs": predictions}, option=orjson.OPT_SERIALIZE_NUMPY))
