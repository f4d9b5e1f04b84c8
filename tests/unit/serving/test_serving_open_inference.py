"""The Open Inference Protocol's JSON and binary tensors, both ways."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.rows import BadRequestError, Layout, TooLargeError
from serving.web.messages import Decoded, Request
from serving.web.protocols import open_inference

LAYOUT = Layout(
    (
        Feature(name="carrier", dtype="string"),
        Feature(name="distance", dtype="float32"),
        Feature(name="weekday", dtype="int64"),
    )
)
VERSION: Any = SimpleNamespace(version=7, manifest=SimpleNamespace(name="trips"))
CARRIER = {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "AA"]}
DISTANCE = {"name": "distance", "shape": [2], "datatype": "FP32", "data": [1, 2.5]}
WEEKDAY = {"name": "weekday", "shape": [2, 1], "datatype": "INT64", "data": [[3], [4]]}


def decode(payload: Any, tail: bytes = b"", *, head_length: bytes | None = None, max_rows: int = 100) -> Decoded:
    """Read a body whose JSON part is `payload`."""
    head = json.dumps(payload).encode()
    length = str(len(head)).encode() if head_length is None else head_length
    headers = [(open_inference.JSON_LENGTH, length)] if tail or head_length is not None else []
    return open_inference.decode(Request("POST", "/", b"", headers, "", head + tail), LAYOUT, max_rows)


def binary(tensor: dict[str, Any], data: bytes) -> dict[str, Any]:
    """A tensor whose values follow the JSON."""
    kept = {key: value for key, value in tensor.items() if key != "data"}
    return {**kept, "parameters": {"binary_data_size": len(data)}}


def texts(*values: bytes) -> bytes:
    """BYTES as they are sent."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def test_json_tensors_become_rows() -> None:
    """Flat or nested, in any order; the answer names model, version and the request's id."""
    decoded = decode({"inputs": [WEEKDAY, CARRIER, DISTANCE], "id": "abc"})
    assert decoded.rows.columns() == {"carrier": ["UA", "AA"], "distance": [1, 2.5], "weekday": [3, 4]}
    answer = json.loads(decoded.encode(np.array([0.25, 0.5], np.float32), VERSION).body)
    assert answer["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 0.5]}]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("trips", "7", "abc")


def test_binary_tensors_become_the_same_rows() -> None:
    """As Triton's client sends them; narrower whole numbers and wider floats convert."""
    parts = [texts(b"UA", b"AA"), np.array([1, 2.5], "<f8").tobytes(), np.array([3, 4], "<i4").tobytes()]
    tensors = [
        binary(CARRIER, parts[0]),
        binary({**DISTANCE, "datatype": "FP64"}, parts[1]),
        binary({**WEEKDAY, "datatype": "INT32"}, parts[2]),
    ]
    decoded = decode({"inputs": tensors, "parameters": {"binary_data_output": True}}, b"".join(parts))
    assert decoded.rows.columns() == {"carrier": ["UA", "AA"], "distance": [1, 2.5], "weekday": [3, 4]}
    encoded = decoded.encode(np.array([0.25, 0.5], np.float32), VERSION)
    length = int(dict(encoded.headers)[open_inference.JSON_LENGTH])
    assert json.loads(encoded.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(encoded.body[length:], "<f4").tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("for_all", "of_output", "binary"),
    [
        ({"binary_data_output": True}, {}, True),
        ({"binary_data_output": True}, {"binary_data": False}, False),
        ({"binary_data_output": False}, {"binary_data": True}, True),
        ({}, {"binary_data": True}, True),
        ({}, {}, False),
    ],
)
def test_an_output_is_binary_as_it_says_or_as_is_said_for_all(
    for_all: dict[str, bool], of_output: dict[str, bool], *, binary: bool
) -> None:
    """As Triton's extension has it."""
    outputs = [{"name": "probability", "parameters": of_output}]
    decoded = decode({"inputs": [CARRIER, DISTANCE, WEEKDAY], "parameters": for_all, "outputs": outputs})
    encoded = decoded.encode(np.array([0.25, 0.5], np.float32), VERSION)
    assert (encoded.content_type == b"application/octet-stream") is binary


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, '"inputs" must be a list with a tensor a feature'),
        ({"inputs": []}, "not an empty list"),
        ({"inputs": [1]}, "must be an object with name, shape, datatype and data"),
        ({"input": []}, 'unknown key "input"; did you mean "inputs"?'),
        ({"inputs": [CARRIER, DISTANCE]}, 'inputs lacks "weekday"'),
        ({"inputs": [CARRIER, CARRIER]}, '"carrier" more than once'),
        ({"inputs": [{**CARRIER, "name": "carier"}]}, 'unknown feature "carier"; did you mean "carrier"?'),
        ({"inputs": [{**CARRIER, "name": "carier"}, {**CARRIER, "name": 5}]}, "must be an object with name, shape"),
        ({"inputs": [{**CARRIER, "name": "carier"}, {**CARRIER, "name": []}]}, "must be an object with name, shape"),
        (
            {"inputs": [{**CARRIER, "datatype": "FP32"}]},
            'input "carrier": datatype must be BYTES, not the string "FP32"',
        ),
        ({"inputs": [{**CARRIER, "datatype": 1}]}, "datatype must be BYTES, not the number 1"),
        ({"inputs": [{**CARRIER, "shape": [2, 2]}]}, "shape must be [rows] or [rows, 1], not [2, 2]"),
        ({"inputs": [{**CARRIER, "shape": [-1]}]}, "shape must be a list of sizes"),
        ({"inputs": [{**CARRIER, "shape": []}]}, "shape must be [rows] or [rows, 1]"),
        ({"inputs": [{**CARRIER, "shape": [0], "data": []}]}, "has no rows"),
        ({"inputs": [{**CARRIER, "shape": [3]}]}, "has 2 values; its shape says 3"),
        ({"inputs": [{**CARRIER, "data": "UA"}]}, 'data must be a list, not the string "UA"'),
        ({"inputs": [CARRIER, {**DISTANCE, "data": [1, None]}, WEEKDAY]}, 'inputs, row 1: "distance" must be a finite'),
        ({"inputs": [CARRIER, {**DISTANCE, "shape": [1], "data": [1]}, WEEKDAY]}, "must be of one length"),
        ({"inputs": [CARRIER, DISTANCE, WEEKDAY], "id": 1}, '"id" must be a string'),
        ({"inputs": [CARRIER, DISTANCE, WEEKDAY], "outputs": [{"name": "logits"}]}, 'one output, "probability"'),
        ({"inputs": [{**CARRIER, "parameters": {"binary_data_size": 8}}]}, "a number of bytes that the body has"),
        ({"inputs": [{**CARRIER, "parameters": [8]}]}, '"parameters" must be an object, not a list'),
    ],
)
def test_a_wrong_body_is_refused_with_the_tensor_and_what_was_expected(payload: Any, message: str) -> None:
    """The message names the tensor, so that a client's author need not guess."""
    with pytest.raises(BadRequestError) as refused:
        decode(payload)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("data", "tensor", "message"),
    [
        (b"\x01\x00", CARRIER, "end within a length"),
        (struct.pack("<I", 9) + b"UA", CARRIER, "end within a string"),
        (texts(b"\xff"), {**CARRIER, "shape": [1]}, "row 0: the string is not UTF-8"),
        (b"\x00" * 7, DISTANCE, "no whole number of values"),
        (np.array([np.nan, 1], "<f4").tobytes(), DISTANCE, 'row 0: "distance" must be a finite number'),
    ],
)
def test_wrong_bytes_are_refused(data: bytes, tensor: dict[str, Any], message: str) -> None:
    """Cut off, not UTF-8, not a number: each has its message."""
    others = [other for other in (CARRIER, DISTANCE, WEEKDAY) if other["name"] != tensor["name"]]
    with pytest.raises(BadRequestError) as refused:
        decode({"inputs": [binary(tensor, data), *others]}, data)
    assert message in str(refused.value)


@pytest.mark.parametrize("length", [b"9999999", b"-1", b"x", b"", b"9" * 5000])
def test_a_length_of_json_that_the_body_has_not_is_refused(length: bytes) -> None:
    """It must be a number of bytes."""
    with pytest.raises(BadRequestError, match="inference-header-content-length"):
        decode({"inputs": []}, b"tail", head_length=length)


def test_bytes_after_the_last_tensor_are_refused() -> None:
    """Something was not understood, then."""
    with pytest.raises(BadRequestError, match="4 bytes follow"):
        decode({"inputs": [CARRIER, DISTANCE, WEEKDAY]}, b"more")


def test_a_shape_past_the_limit_is_refused_before_its_values_are_read() -> None:
    """A claim of a million rows costs nothing."""
    with pytest.raises(TooLargeError, match="1000000 rows; 100 are allowed"):
        decode({"inputs": [{**CARRIER, "shape": [1_000_000]}]})
