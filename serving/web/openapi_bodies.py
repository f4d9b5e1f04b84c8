"""What the OpenAPI description says of a prediction's body and answer, a protocol a function."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.rows import FLOAT32_MAX, INT64_MAX, INT64_MIN, SIGNATURE
from serving.web.protocols.open_inference import DATATYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.plane.table import ServedModel
    from serving.plane.version import LoadedVersion

    Schema = dict[str, Any]

TYPES: dict[str, Schema] = {
    "string": {"type": "string"},
    "float32": {"type": "number", "format": "float", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX},
    "int64": {"type": "integer", "format": "int64", "minimum": INT64_MIN, "maximum": INT64_MAX},
}


class Body(NamedTuple):
    """A request's body and its answer."""

    schema: Schema
    examples: dict[str, Any]
    """Name -> a body that works when pasted."""
    answer: Schema
    csv: str | None = None
    """The same as CSV, where that is read too."""


def schemas(models: Mapping[str, ServedModel]) -> dict[str, Schema]:
    """What bodies refer to: a row of each model, and its features as columns."""
    found = {"Error": an_object({"error": {"type": "string"}}, ["error"], more=True)}
    for name, model in sorted(models.items()):
        types = {feature.name: TYPES[feature.dtype] for feature in model.serving.layout.features}
        lists = {feature: {"type": "array", "minItems": 1, "items": kind} for feature, kind in types.items()}
        found[f"{name}_row"] = {**an_object(types, list(types)), "examples": [model.serving.example]}
        found[f"{name}_columns"] = an_object(lists, list(lists))
    return found


def tensorflow_serving(name: str, version: LoadedVersion) -> Body:
    """Rows, or columns."""
    signature = {"signature_name": {"const": SIGNATURE}}
    rows = an_object({"instances": _rows(name), **signature}, ["instances"])
    columns = an_object({"inputs": _columns(name), **signature}, ["inputs"])
    examples = {"rows": {"instances": [version.example]}, "columns": {"inputs": _as_columns(version)}}
    return Body({"oneOf": [rows, columns]}, examples, {"oneOf": [_numbers("predictions"), _numbers("outputs")]})


def open_inference(version: LoadedVersion) -> Body:
    """A JSON tensor a feature."""
    features = version.layout.features
    tensors = [
        {"name": each.name, "shape": [1], "datatype": DATATYPES[each.dtype], "data": [version.example[each.name]]}
        for each in features
    ]
    tensor = an_object(
        {
            "name": {"enum": [feature.name for feature in features]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
            "datatype": {"enum": sorted(DATATYPES.values())},
            "data": {"type": "array"},
        },
        ["name", "shape", "datatype", "data"],
        more=True,
    )
    inputs = {"type": "array", "minItems": 1, "items": tensor}
    schema = an_object({"inputs": inputs, "id": {"type": "string"}}, ["inputs"], more=True)
    answer = {"outputs": {"type": "array"}, "model_name": {"type": "string"}, "model_version": {"type": "string"}}
    return Body(schema, {"tensors": {"inputs": tensors}}, an_object(answer, list(answer), more=True))


def mlflow(models: Mapping[str, ServedModel]) -> Body:
    """A DataFrame as pandas writes it, records, columns, or CSV; the examples are of the first model."""
    split = an_object({"columns": {"type": "array"}, "data": {"type": "array"}}, ["columns", "data"], more=True)
    formats = [an_object({"dataframe_split": split}, ["dataframe_split"])]
    for name in sorted(models):
        inputs = {"oneOf": [_rows(name), _columns(name)]}
        formats += [
            an_object({key: schema}, [key])
            for key, schema in (("dataframe_records", _rows(name)), ("instances", _rows(name)), ("inputs", inputs))
        ]
    first = models[min(models)].serving
    names, values = list(first.example), list(first.example.values())
    examples = {
        "dataframe_split": {"dataframe_split": {"columns": names, "data": [values]}},
        "dataframe_records": {"dataframe_records": [first.example]},
        "inputs": {"inputs": _as_columns(first)},
    }
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((names, values))
    return Body({"anyOf": formats}, examples, _numbers("predictions"), text.getvalue())


def bentoml(models: Mapping[str, ServedModel]) -> Body:
    """The model's name beside its rows."""
    named = [
        an_object({"model": {"const": name}, "instances": _rows(name)}, ["model", "instances"])
        for name in sorted(models)
    ]
    examples = {name: {"model": name, "instances": [model.serving.example]} for name, model in sorted(models.items())}
    return Body({"oneOf": named}, examples, _numbers("predictions"))


def an_object(properties: dict[str, Any], required: list[str], *, more: bool = False) -> Schema:
    """The schema of an object; `more` allows other keys too."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


def _rows(name: str) -> Schema:
    return {"type": "array", "minItems": 1, "items": {"$ref": f"#/components/schemas/{name}_row"}}


def _columns(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}_columns"}


def _as_columns(version: LoadedVersion) -> dict[str, list[Any]]:
    return {name: [value] for name, value in version.example.items()}


def _numbers(key: str) -> Schema:
    return an_object({key: {"type": "array", "items": {"type": "number"}}}, [key])
