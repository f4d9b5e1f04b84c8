"""MLflow's scoring protocol: four JSON formats and CSV give the same rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ct.contracts import Feature
from serving.rows import BadRequestError, Layout, TooLargeError
from serving.web.messages import Decoded, Request
from serving.web.protocols import mlflow_scoring

LAYOUT = Layout(
    (
        Feature(name="carrier", dtype="string"),
        Feature(name="distance", dtype="float32"),
        Feature(name="weekday", dtype="int64"),
    )
)
VERSION: Any = None
ROWS = [{"carrier": "UA", "distance": 1.5, "weekday": 3}, {"carrier": "A,A", "distance": 2.0, "weekday": -4}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
CSV = b'weekday,carrier,distance\r\n3,UA,1.5\r\n-4,"A,A",2\r\n'


def decode(body: bytes, content_type: bytes | None = b"application/json", max_rows: int = 100) -> Decoded:
    """Read a body."""
    headers = [(b"content-type", content_type)] if content_type else []
    return mlflow_scoring.decode(Request("POST", "/invocations", b"", headers, "", body), LAYOUT, max_rows)


@pytest.mark.parametrize(
    "payload",
    [
        {"dataframe_split": {"columns": list(COLUMNS), "data": [list(row.values()) for row in ROWS], "index": [0, 1]}},
        {"dataframe_records": ROWS},
        {"instances": ROWS, "params": {}},
        {"inputs": COLUMNS},
        {"inputs": ROWS},
    ],
)
def test_every_json_format_gives_the_same_rows(payload: dict[str, Any]) -> None:
    """And is answered with `predictions`."""
    decoded = decode(json.dumps(payload).encode())
    assert decoded.rows.columns() == COLUMNS
    assert json.loads(decoded.encode(np.array([0.25], np.float32), VERSION).body) == {"predictions": [0.25]}


def test_csv_is_read_by_the_features_types() -> None:
    """Columns in any order, quoted fields, with or without a byte-order mark."""
    assert decode(CSV, b"text/csv; charset=utf-8").rows.columns() == COLUMNS
    assert decode(b"\xef\xbb\xbf" + CSV, b"text/csv").rows.columns() == COLUMNS
    assert decode(json.dumps({"inputs": COLUMNS}).encode(), None).rows.count == 2


def test_blank_lines_of_csv_are_passed_over() -> None:
    """Before the header, between rows and at the end; they count for no row."""
    blank = b"\r\n" + CSV.replace(b"\r\n", b"\r\n\r\n") + b"\n\n"
    assert decode(blank, b"text/csv", max_rows=2).rows.columns() == COLUMNS


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{}", b"application/xml", 'content-type must be "application/json" or "text/csv", not "application/xml"'),
        (b"{}", b"application/json", "must hold one of dataframe_split, dataframe_records, instances, inputs"),
        (b'{"inputs": {}, "instances": []}', b"application/json", "not instances and inputs"),
        (b'{"inputs": {}, "params": {"a": 1}}', b"application/json", '"params" must be empty'),
        (b'{"dataframe_split": []}', b"application/json", 'an object with "columns" and "data"'),
        (b'{"dataframe_split": {"columns": ["a"], "dta": []}}', b"application/json", 'unknown key "dta"'),
        (
            b'{"dataframe_split": {"columns": ["carrier"], "data": [["UA", 1]]}}',
            b"application/json",
            "row 0 must be a list with 1 values, not 2 values",
        ),
        (
            b'{"dataframe_split": {"columns": ["carrier", "carrier"], "data": [["UA", "UA"]]}}',
            b"application/json",
            '"carrier" more than once',
        ),
        (b"", b"text/csv", "a header and at least one row"),
        (b"carrier,distance,weekday\n", b"text/csv", "a header and at least one row"),
        (b"carrier,distance,weekday\nUA,1\n", b"text/csv", "row 0 must be a list with 3 values, not 2 values"),
        (b"carrier,distance,weekday\nUA,far,1\n", b"text/csv", '"distance" must be a finite number of 32 bits'),
        (b"carrier,distance,weekday\nUA,nan,1\n", b"text/csv", '"distance" must be a finite number of 32 bits'),
        (b"carrier,distance,weekday\nUA,1,1.5\n", b"text/csv", '"weekday" must be a whole number of 64 bits'),
        (b"carrier,distance,weekday\nUA,1,1_000\n", b"text/csv", 'not the string "1_000"'),
        (b"carrier,distance,weekday\nUA,1_0.5,1\n", b"text/csv", 'not the string "1_0.5"'),
        (b"carrier,distance,weekday\nUA, 1.5,1\n", b"text/csv", 'not the string " 1.5"'),
        ("carrier,distance,weekday\nUA,1,\u0663\n".encode(), b"text/csv", 'not the string "\u0663"'),
        (b'{"dataframe_split": {"columns": [1, "1"], "data": [[1, 2]]}}', b"application/json", '"1" more than once'),
        (
            b'{"dataframe_split": {"columns": ["a", {}], "data": [[1, 2]]}}',
            b"application/json",
            "column 1 must be named by a string, not an object",
        ),
        (b"carrier,distance,weekday\nUA,1,%d\n" % 10**400, b"text/csv", '"weekday" must be a whole number of 64 bits'),
        (b'carrier,distance,weekday\n"UA,1,1\n', b"text/csv", "not CSV"),
        (b"carrier\n\xff\n", b"text/csv", "not UTF-8"),
    ],
)
def test_a_wrong_body_is_refused_with_what_was_expected(body: bytes, content_type: bytes, message: str) -> None:
    """The message names the column and the row."""
    with pytest.raises(BadRequestError) as refused:
        decode(body, content_type)
    assert message in str(refused.value)


def test_more_rows_than_allowed_are_too_large() -> None:
    """In CSV too."""
    with pytest.raises(TooLargeError, match="2 rows; 1 are allowed"):
        decode(CSV, b"text/csv", max_rows=1)


def test_an_error_is_said_as_mlflow_says_it() -> None:
    """`error_code` and `message` for its clients, `error` as everywhere here."""
    assert mlflow_scoring.error(404, "no model") == {
        "error": "no model",
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "no model",
    }
