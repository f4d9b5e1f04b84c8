"""The same rows in each server's format, as files with a JSON body a line, and the probabilities out of each answer."""

from __future__ import annotations

import json
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from ct.contracts import Feature

    Row = Mapping[str, Any]
    Body = Callable[[Sequence[Feature], Sequence[Row]], dict[str, Any]]

DATATYPES = {"string": "BYTES", "float32": "FP32", "int64": "INT64"}


def instances(features: Sequence[Feature], rows: Sequence[Row]) -> dict[str, Any]:
    """TensorFlow Serving's row format; also what BentoML makes of a parameter of this name."""
    return {"instances": [{feature.name: row[feature.name] for feature in features} for row in rows]}


def columns(features: Sequence[Feature], rows: Sequence[Row]) -> dict[str, Any]:
    """TensorFlow Serving's column format; also MLflow's for tensors."""
    return {"inputs": {feature.name: [row[feature.name] for row in rows] for feature in features}}


def tensors(features: Sequence[Feature], rows: Sequence[Row]) -> dict[str, Any]:
    """The Open Inference Protocol's format."""
    return {
        "inputs": [
            {
                "name": feature.name,
                "shape": [len(rows)],
                "datatype": DATATYPES[feature.dtype],
                "data": [row[feature.name] for row in rows],
            }
            for feature in features
        ]
    }


def predictions(answer: Any) -> list[float]:
    """The probabilities of an answer in any of the servers' formats.

    Raises:
        KeyError: of none of them.
    """
    if isinstance(answer, list):  # BentoML
        return answer
    if "model_name" in answer:  # Open Inference Protocol
        (tensor,) = answer["outputs"]
        return list(tensor["data"])
    return list(answer["predictions"] if "predictions" in answer else answer["outputs"])


def write(path: Path, body: Body, features: Sequence[Feature], rows: Sequence[Row], *, rows_a_request: int = 1) -> Path:
    """A file with as many bodies as there are rows, or with one when a request takes more rows than there are."""
    path.write_text("\n".join(_bodies(body, features, rows, rows_a_request)) + "\n", encoding="utf-8")
    return path


def _bodies(body: Body, features: Sequence[Feature], rows: Sequence[Row], size: int) -> Iterable[str]:
    if size > 1:
        yield json.dumps(body(features, list(islice(cycle(rows), size))))
        return
    for row in rows:
        yield json.dumps(body(features, [row]))
