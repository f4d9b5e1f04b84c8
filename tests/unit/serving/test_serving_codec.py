"""TensorFlow Serving's bodies to columns: what is right goes through, what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.codec import BadRequestError, decode, encode

FEATURES = (
    Feature(name="carrier", dtype="string"),
    Feature(name="distance", dtype="float32"),
    Feature(name="weekday", dtype="int64"),
)
ROW = {"carrier": "UA", "distance": 100.5, "weekday": 3}


def rows(**changes: Any) -> dict[str, Any]:
    """A row-format body whose second row has these changes."""
    return {"instances": [ROW, {**ROW, **changes}]}


def columns(**changes: Any) -> dict[str, Any]:
    """A column-format body with these changes."""
    return {"inputs": {"carrier": ["UA", "AA"], "distance": [1, 2.5], "weekday": [0, 6], **changes}}


def test_rows_become_typed_columns() -> None:
    """Each feature is an array of its dtype, one value a row; a whole number will do for a float."""
    request = decode(json.dumps(rows(distance=7)).encode(), FEATURES)
    assert request.rows == 2
    assert not request.columnar
    assert request.columns["carrier"].tolist() == [b"UA", b"UA"]
    assert request.columns["distance"].dtype == np.float32
    assert request.columns["distance"].tolist() == [100.5, 7.0]
    assert request.columns["weekday"].dtype == np.int64


def test_columns_are_taken_as_they_are() -> None:
    """The column format gives the same columns and is answered with `outputs`."""
    request = decode(json.dumps(columns()).encode(), FEATURES)
    assert request.rows == 2
    assert request.columnar
    assert json.loads(encode(np.array([0.25], np.float32), columnar=True)) == {"outputs": [0.25]}
    assert json.loads(encode(np.array([0.25], np.float32), columnar=False)) == {"predictions": [0.25]}


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
        decode(json.dumps(payload).encode(), FEATURES)
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
        decode(body, FEATURES)


def test_a_message_does_not_repeat_a_long_value() -> None:
    """What a client sent is shown in part only."""
    with pytest.raises(BadRequestError) as refused:
        decode(json.dumps(rows(distance="x" * 10_000)).encode(), FEATURES)
    assert len(str(refused.value)) < 200
