"""JSON bodies to typed columns and back, in TensorFlow Serving's REST format; every wrong input is named exactly.

https://www.tensorflow.org/tfx/serving/api_rest: `instances` is a list of rows, `inputs` a column a feature.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct.contracts import Feature

KNOWN_KEYS = ("instances", "inputs", "signature_name")
SIGNATURE = "serving_default"
SHOWN_CHARACTERS = 40
WANTED = {"string": "a string", "float32": "a finite number of 32 bits", "int64": "a whole number of 64 bits"}

Columns = dict[str, np.ndarray[Any, Any]]


class BadRequestError(Exception):
    """A request that cannot be answered; the message names the feature, the row and what was expected."""


@dataclass(frozen=True)
class PredictRequest:
    """A decoded body."""

    columns: Columns
    """Each feature's values, shape (rows,)."""
    rows: int
    columnar: bool
    """True when the answer's key is `outputs`."""


def decode(body: bytes, features: Sequence[Feature]) -> PredictRequest:
    """Read a `:predict` body.

    Raises:
        BadRequestError: it is not JSON, not of the format, or a value is not what the feature takes.
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise BadRequestError(f'the body must be an object with "instances" or "inputs", not {_kind(payload)}')
    unknown = [key for key in payload if key not in KNOWN_KEYS]
    if unknown:
        raise BadRequestError(f'unknown key "{_short(unknown[0])}"{_nearest(unknown[0], KNOWN_KEYS)}')
    if payload.get("signature_name", SIGNATURE) != SIGNATURE:
        raise BadRequestError(f'"signature_name" must be "{SIGNATURE}", the only signature that is served')
    if ("instances" in payload) == ("inputs" in payload):
        raise BadRequestError('the body must hold "instances" (rows) or "inputs" (columns), and not both')
    if "instances" in payload:
        rows = payload["instances"]
        if not isinstance(rows, list) or not rows:
            raise BadRequestError(f'"instances" must be a list with at least one row, not {_kind(rows)}')
        return PredictRequest(columns_from_rows(features, rows), len(rows), columnar=False)
    columns = _columns(features, payload["inputs"])
    return PredictRequest(columns, len(next(iter(columns.values()))), columnar=True)


def encode(predictions: np.ndarray[Any, Any], *, columnar: bool) -> bytes:
    """The answer's body: one probability a row."""
    key = "outputs" if columnar else "predictions"
    body: bytes = orjson.dumps({key: predictions}, option=orjson.OPT_SERIALIZE_NUMPY)
    return body


def columns_from_rows(features: Sequence[Feature], rows: Sequence[Any]) -> Columns:
    """Rows, each an object with exactly the features, to typed columns.

    Raises:
        BadRequestError: naming the row and the feature.
    """
    names = {feature.name for feature in features}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise BadRequestError(f"instances[{number}] must be an object with the features, not {_kind(row)}")
        if row.keys() != names:
            raise BadRequestError(_wrong_names(f"instances[{number}]", row, names))
    return {feature.name: _typed(feature, [row[feature.name] for row in rows], "instances[{}]") for feature in features}


def _columns(features: Sequence[Feature], inputs: Any) -> Columns:
    if not isinstance(inputs, dict):
        raise BadRequestError(f'"inputs" must be an object with a list a feature, not {_kind(inputs)}')
    names = {feature.name for feature in features}
    if inputs.keys() != names:
        raise BadRequestError(_wrong_names("inputs", inputs, names))
    for name, values in inputs.items():
        if not isinstance(values, list) or not values:
            raise BadRequestError(f'inputs["{name}"] must be a list with at least one value, not {_kind(values)}')
    lengths = {name: len(values) for name, values in inputs.items()}
    if len(set(lengths.values())) > 1:
        shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise BadRequestError(
            f'inputs must be of one length: "{shortest}" has {lengths[shortest]} values, "{longest}" has {lengths[longest]}'
        )
    return {feature.name: _typed(feature, inputs[feature.name], "inputs, row {}") for feature in features}


def _typed(feature: Feature, values: list[Any], where: str) -> np.ndarray[Any, Any]:
    """Values as the feature's array; bool is no number, and a number is no string."""
    for row, value in enumerate(values):
        if not _fits(feature.dtype, value):
            place = where.format(row)
            raise BadRequestError(f'{place}: "{feature.name}" must be {WANTED[feature.dtype]}, not {_kind(value)}')
    if feature.dtype == "string":
        return np.array([value.encode() for value in values], dtype=object)
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float32 if feature.dtype == "float32" else np.int64)
    if feature.dtype == "float32" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array)))
        raise BadRequestError(
            f'{where.format(row)}: "{feature.name}" must be {WANTED[feature.dtype]}, not {_short(values[row])}'
        )
    return array


def _fits(dtype: str, value: Any) -> bool:
    if dtype == "string":
        return type(value) is str
    if dtype == "int64":
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    return type(value) is float or type(value) is int


def _wrong_names(where: str, given: Mapping[str, Any], names: set[str]) -> str:
    unknown = sorted(given.keys() - names)
    missing = sorted(names - given.keys())
    if unknown:
        return f'{where} has the unknown feature "{_short(unknown[0])}"{_nearest(unknown[0], missing or sorted(names))}'
    return f"{where} lacks " + ", ".join(f'"{name}"' for name in missing)


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}"


def _kind(value: Any) -> str:
    """What a JSON value is, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the string "{_short(value)}"'
    if isinstance(value, int | float):
        return f"the number {_short(value)}"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    return "an object"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
