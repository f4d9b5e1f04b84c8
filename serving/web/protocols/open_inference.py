"""The Open Inference Protocol v2 over HTTP, with its binary tensors, as Triton's and KServe's clients speak it.

https://github.com/kserve/open-inference-protocol
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html

Each feature is an input tensor of shape (rows,) or (rows, 1); the output is `probability`, FP32, (rows,).
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from serving.rows import OUTPUT, BadRequestError, from_columns, kind, short, wrong_names
from serving.web.messages import JSON, Decoded, Encoded
from serving.web.protocols.body import limit_rows, read_object

if TYPE_CHECKING:
    from serving.plane.version import LoadedVersion
    from serving.rows import Layout
    from serving.web.messages import Request

KEYS = ("inputs", "outputs", "id", "parameters")
JSON_LENGTH = b"inference-header-content-length"
"""Header: how many bytes of the body are JSON; tensors follow."""
LENGTH_DIGITS = 10
DATATYPES = {"string": "BYTES", "float32": "FP32", "int64": "INT64"}
ACCEPTED: dict[str, dict[str, str | None]] = {
    "string": {"BYTES": None},
    "float32": {"FP32": "<f4", "FP64": "<f8", "FP16": "<f2", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4"},
    "int64": {
        "INT64": "<i8",
        "INT32": "<i4",
        "INT16": "<i2",
        "INT8": "<i1",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
    },
}
"""Feature type -> datatypes that convert without loss of meaning, with numpy's name of their bytes."""
LENGTH = struct.Struct("<I")


def decode(request: Request, layout: Layout, max_rows: int) -> Decoded:
    """Read an `infer` body; serving.web.messages.Decode says what it raises."""
    head, tail = _split(request)
    payload = read_object(head, KEYS)
    tensors = payload.get("inputs")
    if type(tensors) is not list or not tensors:
        raise BadRequestError(f'"inputs" must be a list with a tensor a feature, not {kind(tensors)}')
    types = {feature.name: feature.dtype for feature in layout.features}
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        name = _name(tensor)
        if name in columns:
            raise BadRequestError(f'inputs has the tensor "{short(name)}" more than once')
        if name not in types:
            named = dict.fromkeys(_name(other) for other in tensors)
            raise BadRequestError(wrong_names("inputs", named, types))
        datatype, count = _datatype(tensor, types[name]), _count(tensor)
        limit_rows(count, max_rows)
        columns[name], tail = _values(tensor, datatype, types[name], count, tail)
    if tail:
        raise BadRequestError(f"{len(tail)} bytes follow the last tensor")
    binary = _wants_binary(payload)
    return Decoded(from_columns(layout, columns, "inputs"), partial(_encode, _id(payload), binary))


def metadata(name: str, version: LoadedVersion, versions: list[int]) -> dict[str, Any]:
    """A model's metadata."""
    return {
        "name": name,
        "versions": [str(loaded) for loaded in sorted(versions)],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": feature.name, "datatype": DATATYPES[feature.dtype], "shape": [-1]}
            for feature in version.layout.features
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1]}],
    }


def _split(request: Request) -> tuple[bytes, bytes]:
    """The JSON part and the tensors' bytes."""
    length = request.header(JSON_LENGTH)
    if length is None:
        return request.body, b""
    if not length.isdigit() or len(length) > LENGTH_DIGITS or int(length) > len(request.body):
        raise BadRequestError(f'the header "{JSON_LENGTH.decode()}" must be a number of bytes that the body has')
    return request.body[: int(length)], request.body[int(length) :]


def _id(payload: dict[str, Any]) -> str:
    given = payload.get("id", "")
    if type(given) is not str:
        raise BadRequestError(f'"id" must be a string, not {kind(given)}')
    return given


def _name(tensor: Any) -> str:
    if type(tensor) is not dict or type(tensor.get("name")) is not str:
        raise BadRequestError('each tensor of "inputs" must be an object with name, shape, datatype and data')
    name: str = tensor["name"]
    return name


def _datatype(tensor: dict[str, Any], dtype: str) -> str:
    datatype = tensor.get("datatype")
    if type(datatype) is not str or datatype not in ACCEPTED[dtype]:
        raise BadRequestError(
            f'input "{tensor["name"]}": datatype must be {" or ".join(ACCEPTED[dtype])}, not {kind(datatype)}'
        )
    return datatype


def _count(tensor: dict[str, Any]) -> int:
    """Rows, by the tensor's shape."""
    shape = tensor.get("shape")
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise BadRequestError(f'input "{tensor["name"]}": shape must be a list of sizes, not {kind(shape)}')
    if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise BadRequestError(f'input "{tensor["name"]}": shape must be [rows] or [rows, 1], not {shape[:4]}')
    if not shape[0]:
        raise BadRequestError(f'input "{tensor["name"]}" has no rows')
    rows: int = shape[0]
    return rows


def _values(tensor: dict[str, Any], datatype: str, dtype: str, count: int, tail: bytes) -> tuple[list[Any], bytes]:
    """The tensor's values, from its own JSON or from the front of the bytes that follow; and the bytes left."""
    name = tensor["name"]
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        data = tensor.get("data")
        if type(data) is not list:
            raise BadRequestError(f'input "{name}": data must be a list, not {kind(data)}')
        if data and type(data[0]) is list:
            data = [value for row in data for value in (row if type(row) is list else [row])]
        values = data
    else:
        if type(size) is not int or not 0 <= size <= len(tail):
            raise BadRequestError(f'input "{name}": binary_data_size must be a number of bytes that the body has')
        if "data" in tensor:
            raise BadRequestError(f'input "{name}" has both data and binary_data_size')
        values, tail = _from_bytes(name, tail[:size], ACCEPTED[dtype][datatype]), tail[size:]
    if len(values) != count:
        raise BadRequestError(f'input "{name}" has {len(values)} values; its shape says {count}')
    return values, tail


def _from_bytes(name: str, data: bytes, numpy_type: str | None) -> list[Any]:
    if numpy_type is not None:
        if len(data) % np.dtype(numpy_type).itemsize:
            raise BadRequestError(f'input "{name}": {len(data)} bytes are no whole number of values')
        numbers: list[Any] = np.frombuffer(data, numpy_type).tolist()
        return numbers
    texts, at = [], 0
    while at < len(data):
        if at + LENGTH.size > len(data):
            raise BadRequestError(f'input "{name}": its bytes end within a length')
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + length > len(data):
            raise BadRequestError(f'input "{name}": its bytes end within a string')
        try:
            texts.append(data[at : at + length].decode())
        except UnicodeDecodeError as error:
            raise BadRequestError(f'input "{name}", row {len(texts)}: the string is not UTF-8') from error
        at += length
    return texts


def _wants_binary(payload: dict[str, Any]) -> bool:
    """Whether the answer's tensor shall be bytes: said for the output, or else for all outputs."""
    outputs = payload.get("outputs") or []
    if type(outputs) is not list:
        raise BadRequestError(f'"outputs" must be a list, not {kind(outputs)}')
    for output in outputs:
        if type(output) is not dict or output.get("name") != OUTPUT:
            asked = output.get("name") if type(output) is dict else output
            raise BadRequestError(f'the model has one output, "{OUTPUT}", and not {kind(asked)}')
    by_default = bool(_parameters(payload).get("binary_data_output", False))
    return any(bool(_parameters(output).get("binary_data", by_default)) for output in outputs or [{}])


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    given = holder.get("parameters") or {}
    if type(given) is not dict:
        raise BadRequestError(f'"parameters" must be an object, not {kind(given)}')
    return given


def _encode(given_id: str, binary: bool, predictions: np.ndarray[Any, Any], version: LoadedVersion) -> Encoded:  # noqa: FBT001  bound by partial
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": [len(predictions)]}
    data = predictions.astype("<f4", copy=False).tobytes() if binary else b""
    if binary:
        output["parameters"] = {"binary_data_size": len(data)}
    else:
        output["data"] = predictions
    answer = {"model_name": version.manifest.name, "model_version": str(version.version), "outputs": [output]}
    if given_id:
        answer["id"] = given_id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return Encoded(head, JSON)
    return Encoded(head + data, b"application/octet-stream", ((JSON_LENGTH, b"%d" % len(head)),))
