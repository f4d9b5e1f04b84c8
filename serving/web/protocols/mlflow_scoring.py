"""MLflow's scoring protocol: `/invocations` with a pandas DataFrame in JSON, or CSV.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally
"""

from __future__ import annotations

import csv
import io
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from serving.rows import BadRequestError, from_columns, from_objects, from_table, short
from serving.web.messages import Decoded, Encoded
from serving.web.protocols.body import limit_columns, limit_rows, read_object, require_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from serving.plane.version import LoadedVersion
    from serving.rows import Layout, Rows
    from serving.web.messages import Request

PROTOCOL = "mlflow"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
KEYS = (*FORMATS, "params")
SPLIT_KEYS = ("columns", "data", "index")
JSON_TYPE, CSV_TYPE = b"application/json", b"text/csv"


def decode(request: Request, layout: Layout, max_rows: int) -> Decoded:
    """Read an `/invocations` body; serving.web.messages.Decode says what it raises."""
    content_type = (request.header(b"content-type") or JSON_TYPE).partition(b";")[0].strip().lower()
    if content_type == CSV_TYPE:
        return Decoded(_from_csv(request.body, layout, max_rows), _encode)
    if content_type != JSON_TYPE:
        raise BadRequestError(
            f'content-type must be "application/json" or "text/csv", not "{short(content_type.decode("latin-1"))}"'
        )
    payload = read_object(request.body, KEYS)
    if payload.get("params"):
        raise BadRequestError('"params" must be empty: the model takes none')
    given = [key for key in FORMATS if key in payload]
    if len(given) != 1:
        raise BadRequestError(
            f"the body must hold one of {', '.join(FORMATS)}, not {' and '.join(given) or 'none of them'}"
        )
    name = given[0]
    return Decoded(_READERS[name](payload[name], name, layout, max_rows), _encode)


def error(status: int, message: str) -> dict[str, str]:
    """MLflow's body of an answer other than 200; `error` is there too, as in every other answer of ours."""
    codes = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST"}
    code = codes.get(status) or ("TEMPORARILY_UNAVAILABLE" if status in (429, 503) else "INTERNAL_ERROR")
    return {
        "error": message,
        "error_code": "INVALID_PARAMETER_VALUE" if status in (413, 415) else code,
        "message": message,
    }


def _from_split(value: Any, name: str, layout: Layout, max_rows: int) -> Rows:
    if type(value) is not dict or type(value.get("columns")) is not list:
        raise BadRequestError(f'"{name}" must be an object with "columns" and "data", as pandas writes it')
    unknown = next((key for key in value if key not in SPLIT_KEYS), None)
    if unknown is not None:
        raise BadRequestError(f'"{name}" has the unknown key "{short(unknown)}"')
    return from_table(layout, value["columns"], require_rows(value.get("data"), f"{name}.data", max_rows), name)


def _from_records(value: Any, name: str, layout: Layout, max_rows: int) -> Rows:
    return from_objects(layout, require_rows(value, name, max_rows), name)


def _from_inputs(value: Any, name: str, layout: Layout, max_rows: int) -> Rows:
    """Columns, or a list of rows: MLflow takes both under `inputs`."""
    if type(value) is list:
        return _from_records(value, name, layout, max_rows)
    return from_columns(layout, limit_columns(value, name, max_rows), name)


_READERS: dict[str, Callable[[Any, str, Layout, int], Rows]] = {
    "dataframe_split": _from_split,
    "dataframe_records": _from_records,
    "instances": _from_records,
    "inputs": _from_inputs,
}


def _from_csv(body: bytes, layout: Layout, max_rows: int) -> Rows:
    """A header and a line a row; values are read as the features' types say. Blank lines are passed over, as pandas does."""
    try:
        text = body.decode("utf-8-sig")
        lines = filter(None, csv.reader(io.StringIO(text, newline=""), strict=True))
        names, data = next(lines, []), list(islice(lines, max_rows))
        limit_rows(len(data) + sum(1 for _ in lines), max_rows)
    except UnicodeDecodeError as error:
        raise BadRequestError(f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
    except csv.Error as error:
        raise BadRequestError(f"the body is not CSV: {error}") from error
    if not data:
        raise BadRequestError("the CSV must have a header and at least one row")
    types = {feature.name: feature.dtype for feature in layout.features}
    typed = [
        [_value(types.get(name), text) for name, text in zip(names, line, strict=False)]
        if len(line) == len(names)
        else line
        for line in data
    ]
    return from_table(layout, names, typed, "the CSV")


def _value(dtype: str | None, text: str) -> Any:
    """The number that a field writes; anything else stays text, and the check of types names it."""
    if "_" in text or text.strip() != text or not text.isascii():
        return text  # Python would read these as numbers too
    try:
        if dtype == "int64":
            return int(text)
        if dtype == "float32":
            return float(text)
    except ValueError:
        return text
    return text


def _encode(predictions: np.ndarray[Any, Any], _version: LoadedVersion) -> Encoded:
    return Encoded(orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY))
