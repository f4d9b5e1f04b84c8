"""TensorFlow Serving's bodies to rows: what is right goes through, what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.rows import BadRequestError, Layout, TooLargeError
from serving.web.messages import Decoded, Request
from serving.web.protocols import tensorflow_serving

FEATURES = (
    Feature(name="carrier", dtype="string"),
    Feature(name="distance", dtype="float32"),
    Feature(name="weekday", dtype="int64"),
)
ROW = {"carrier": "UA", "distance": 100.5, "weekday": 3}
LAYOUT = Layout(FEATURES)
VERSION: Any = None
"""This protocol's answers do not name the version."""


def decode(body: bytes, max_rows: int = 100) -> Decoded:
    """Read a body."""
    request = Request("POST", "/v1/models/trips:predict", b"", [], "", body)
    return tensorflow_serving.decode(request, LAYOUT, max_rows)


def rows(**changes: Any) -> dict[str, Any]:
    """A row-format body whose second row has these changes."""
    return {"instances": [ROW, {**ROW, **changes}]}


def columns(**changes: Any) -> dict[str, Any]:
    """A column-format body with these changes."""
    return {"inputs": {"carrier": ["UA", "AA"], "distance": [1, 2.5], "weekday": [0, 6], **changes}}


def test_rows_become_one_matrix_a_type() -> None:
    """A value a row and feature in the order of the layout; a whole number will do for a float."""
    decoded = decode(json.dumps(rows(distance=7)).encode())
    strings, floats, ints = decoded.rows.arrays()
    assert decoded.rows.count == 2
    assert strings.tolist() == [["UA"], ["UA"]]
    assert (floats.dtype, floats.tolist()) == (np.float32, [[100.5], [7.0]])
    assert (ints.dtype, ints.tolist()) == (np.int64, [[3], [3]])
    answer = decoded.encode(np.array([0.25, 0.5], np.float32), VERSION)
    assert json.loads(answer.body) == {"predictions": [0.25, 0.5]}


def test_columns_give_the_same_rows_and_are_answered_with_outputs() -> None:
    """The column format differs on the wire only."""
    decoded = decode(json.dumps(columns()).encode())
    assert decoded.rows.columns() == columns()["inputs"]
    assert json.loads(decoded.encode(np.array([0.25], np.float32), VERSION).body) == {"outputs": [0.25]}


@pytest.mark.parametrize(
    "body", [{"instances": [ROW] * 4}, {"inputs": {name: [value] * 4 for name, value in ROW.items()}}]
)
def test_more_rows_than_allowed_are_too_large(body: dict[str, Any]) -> None:
    """The message says how many there are and how many may be."""
    assert decode(json.dumps(body).encode(), max_rows=4).rows.count == 4
    with pytest.raises(TooLargeError, match="has 4 rows; 3 are allowed"):
        decode(json.dumps(body).encode(), max_rows=3)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "must be an object"),
        ("text", "must be an object"),
        (None, "must be an object"),
        ({}, 'must hold "instances"'),
        ({**rows(), **columns()}, "not both"),
        ({"instance": [ROW]}, 'unknown key "instance"; did you mean "instances"?'),
        ({**rows(), "signature_name": "other"}, '"signature_name" must be "serving_default"'),
        ({"instances": []}, "at least one row, not an empty list"),
        ({"instances": ROW}, "at least one row, not an object"),
        ({"instances": [1]}, "instances[0] must be an object with the features, not the number 1"),
        ({"instances": [ROW, [1]]}, "instances[1] must be an object with the features, not a list"),
        ({"instances": [{"carrier": "UA", "distance": 1.0}]}, 'instances[0] lacks "weekday"'),
        (rows(tailnum="N1"), 'instances[1] has the unknown feature "tailnum"'),
        (
            {"instances": [{"carier": "UA", "distance": 1.0, "weekday": 1}]},
            'unknown feature "carier"; did you mean "carrier"?',
        ),
        (rows(carrier=1), 'instances[1]: "carrier" must be a string, not the number 1'),
        (rows(carrier=None), 'instances[1]: "carrier" must be a string, not null'),
        (rows(carrier=["UA"]), 'instances[1]: "carrier" must be a string, not a list'),
        (rows(distance="far"), 'instances[1]: "distance" must be a finite number of 32 bits, not the string "far"'),
        (rows(distance=True), '"distance" must be a finite number of 32 bits, not true'),
        (rows(distance=None), '"distance" must be a finite number of 32 bits, not null'),
        (rows(distance=1e39), '"distance" must be a finite number of 32 bits'),
        (rows(distance={}), '"distance" must be a finite number of 32 bits, not an object'),
        (rows(weekday=1.5), '"weekday" must be a whole number of 64 bits, not the number 1.5'),
        (rows(weekday=1 << 63), '"weekday" must be a whole number of 64 bits'),
        (rows(weekday=1 << 70), '"weekday" must be a whole number of 64 bits'),
        (rows(weekday=False), '"weekday" must be a whole number of 64 bits, not false'),
        (rows(weekday="3"), '"weekday" must be a whole number of 64 bits, not the string "3"'),
        ({"inputs": [1]}, '"inputs" must be an object with a list a feature'),
        (columns(weekday=3), 'inputs["weekday"] must be a list with at least one value, not the number 3'),
        (columns(weekday=[]), 'inputs["weekday"] must be a list with at least one value, not an empty list'),
        (columns(weekday=[1]), "inputs must be of one length"),
        (columns(weekday=[1, None]), 'inputs, row 1: "weekday" must be a whole number'),
        (columns(tailnum=["N1", "N2"]), 'inputs has the unknown feature "tailnum"'),
    ],
)
def test_a_wrong_body_is_refused_with_the_place_and_what_was_expected(payload: Any, message: str) -> None:
    """The message names the row, the feature and the type, so that a client's author need not guess."""
    with pytest.raises(BadRequestError) as refused:
        decode(json.dumps(payload).encode())
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": [{"carrier": NaN}]}',
        b'{"instances": [{"distance": Infinity}]}',
        b"\xff\xfe",
        b"\x00",
        b"[" * 100000,
    ],
    ids=["empty", "cut off", "NaN", "Infinity", "not UTF-8", "NUL", "deep"],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """NaN and Infinity are no JSON, and deep nesting does not end the process."""
    with pytest.raises(BadRequestError, match="the body is not JSON"):
        decode(body)


def test_a_message_does_not_repeat_a_long_value() -> None:
    """What a client sent is shown in part only."""
    with pytest.raises(BadRequestError) as refused:
        decode(json.dumps(rows(distance="x" * 10_000)).encode())
    assert len(str(refused.value)) < 200
