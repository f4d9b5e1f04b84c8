"""The OpenAPI description: every route, with each served model's own features, types and an example that works when pasted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct import __version__
from serving.rows import FLOAT32_MAX, INT64_MAX, INT64_MIN
from serving.web.protocols import open_inference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.contracts import Feature
    from serving.plane.table import ServedModel
    from serving.plane.version import LoadedVersion

TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "float32": {"type": "number", "format": "float", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX},
    "int64": {"type": "integer", "format": "int64", "minimum": INT64_MIN, "maximum": INT64_MAX},
}
REASONS = {
    400: "The request is wrong; `error` names the row, the feature and what was expected.",
    401: "A token is needed, or this one is not valid.",
    403: "The token has not the scope.",
    404: "No such model, version or label.",
    408: "The body was not whole in time.",
    409: "It cannot be done; `error` says why and what serves on.",
    413: "The body, or its number of rows, is larger than allowed.",
    415: "The body is compressed.",
    429: "Too many requests are being answered; see `Retry-After`.",
    500: "The model failed on rows that its signature allows.",
    503: "Overloaded, or no prediction in time; see `Retry-After`.",
}
PREDICT_ERRORS = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503)
READ_ERRORS = (401, 403, 404)

PAGE = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>ct: served models</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css"></head>
<body><div id="page"></div><script src="./static_content/swagger-ui-bundle.js"></script><script>
let token = "";
const authorize = (request) => {
  if (token) request.headers["Authorization"] = "Bearer " + token;
  return request;
};
(async () => {
  const ask = () => fetch("./openapi.json", authorize({headers: {}}));
  let answer = await ask();
  while (answer.status === 401 || answer.status === 403) {
    token = prompt("A token with the scope `read` (see `ct token create`)");
    if (!token) return;
    answer = await ask();
  }
  SwaggerUIBundle({spec: await answer.json(), dom_id: "#page", requestInterceptor: authorize, tryItOutEnabled: true});
})();
</script></body></html>
"""
"""Swagger UI, from the files that BentoML brings: nothing is loaded from elsewhere."""


def describe(models: Mapping[str, ServedModel], *, needs_token: bool) -> dict[str, Any]:
    """The description of what is served now, as JSON values."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Error": _object({"error": {"type": "string"}}, ["error"], more=True)}
    for name, model in sorted(models.items()):
        version = model.serving
        schemas[_row_name(name)] = _row(version.layout.features, version.example)
        paths.update(_of_model(name, version))
    if len(models) == 1:
        ((name, model),) = models.items()
        paths["/invocations"] = {"post": _invocations(name, model.serving)}
    paths["/readyz"] = {"get": _read("server", "Whether a model serves.", (503,))}
    paths["/livez"] = {"get": _read("server", "Whether the process answers.", ())}
    paths["/v2"] = {"get": _read("server", "Server metadata of the Open Inference Protocol.", (401, 403))}
    components: dict[str, Any] = {"schemas": schemas}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "ct: served models",
            "version": __version__,
            "description": "The header `ct-model-version` of an answer says which version predicted it.",
        },
        "paths": paths,
        "components": components,
    }
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    if needs_token:
        document["security"] = [{"token": []}]
    return document


def _of_model(name: str, version: LoadedVersion) -> dict[str, Any]:
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    history = _read(name, "What served when, who changed it and why.", READ_ERRORS)
    return {
        f"{v1}:predict": {"post": _tensorflow_serving(name, version)},
        v1: {"get": _read(name, "Which versions are loaded (TensorFlow Serving).", READ_ERRORS)},
        f"{v1}/metadata": {"get": _read(name, "The model's signature (TensorFlow Serving).", READ_ERRORS)},
        f"{v1}/history": {"get": history},
        f"{v1}:rollback": {"post": _rollback(name)},
        f"{v2}/infer": {"post": _open_inference(name, version)},
        v2: {"get": _read(name, "The model's metadata (Open Inference Protocol).", READ_ERRORS)},
        f"{v2}/ready": {"get": _read(name, "Whether the model can be asked.", (404,))},
    }


def _tensorflow_serving(name: str, version: LoadedVersion) -> dict[str, Any]:
    signature = {"signature_name": {"const": "serving_default"}}
    rows = _object({"instances": _rows(name), **signature}, ["instances"])
    features = version.layout.features
    lists = {feature.name: {"type": "array", "minItems": 1, "items": TYPES[feature.dtype]} for feature in features}
    columns = _object({"inputs": _object(lists, list(lists)), **signature}, ["inputs"])
    answers = [_numbers("predictions"), _numbers("outputs")]
    example = {"instances": [version.example]}
    return _predict(
        name, "Predict, in TensorFlow Serving's format.", {"oneOf": [rows, columns]}, example, {"oneOf": answers}
    )


def _open_inference(name: str, version: LoadedVersion) -> dict[str, Any]:
    tensors = [
        {
            "name": feature.name,
            "shape": [1],
            "datatype": open_inference.DATATYPES[feature.dtype],
            "data": [version.example[feature.name]],
        }
        for feature in version.layout.features
    ]
    tensor = _object(
        {
            "name": {"enum": [feature.name for feature in version.layout.features]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
            "datatype": {"enum": sorted({"BYTES", "FP32", "INT64"})},
            "data": {"type": "array"},
        },
        ["name", "shape", "datatype", "data"],
        more=True,
    )
    schema = _object(
        {"inputs": {"type": "array", "minItems": 1, "items": tensor}, "id": {"type": "string"}}, ["inputs"], more=True
    )
    answer = _object(
        {"outputs": {"type": "array"}, "model_name": {"type": "string"}}, ["outputs", "model_name"], more=True
    )
    return _predict(name, "Predict, in the Open Inference Protocol v2.", schema, {"inputs": tensors}, answer)


def _invocations(name: str, version: LoadedVersion) -> dict[str, Any]:
    formats = [_object({key: _rows(name)}, [key]) for key in ("dataframe_records", "instances")]
    split = _object({"columns": {"type": "array"}, "data": {"type": "array"}}, ["columns", "data"], more=True)
    formats.append(_object({"dataframe_split": split}, ["dataframe_split"]))
    example = {"dataframe_split": {"columns": list(version.example), "data": [list(version.example.values())]}}
    return _predict(name, "Predict, in MLflow's format.", {"oneOf": formats}, example, _numbers("predictions"))


def _rollback(name: str) -> dict[str, Any]:
    body = _object({"to": {"type": "integer", "minimum": 1}, "reason": {"type": "string", "maxLength": 500}}, [])
    operation = _operation(
        name, "Let an earlier version serve, now. Needs a token with the scope `admin`.", (400, 401, 403, 404, 409)
    )
    operation["security"] = [{"token": []}]
    operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return operation


def _predict(name: str, summary: str, schema: dict[str, Any], example: Any, answer: dict[str, Any]) -> dict[str, Any]:
    operation = _operation(name, summary, PREDICT_ERRORS)
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": schema, "example": example}},
    }
    operation["responses"]["200"]["content"] = {"application/json": {"schema": answer}}
    return operation


def _read(tag: str, summary: str, errors: tuple[int, ...]) -> dict[str, Any]:
    return _operation(tag, summary, errors)


def _operation(tag: str, summary: str, errors: tuple[int, ...]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {str(code): {"description": REASONS[code], "content": content} for code in errors}
    return {"tags": [tag], "summary": summary, "responses": {"200": {"description": "Done."}, **answers}}


def _row(features: tuple[Feature, ...], example: dict[str, Any]) -> dict[str, Any]:
    schema = _object(
        {feature.name: TYPES[feature.dtype] for feature in features}, [feature.name for feature in features]
    )
    return {**schema, "examples": [example]}


def _rows(name: str) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": {"$ref": f"#/components/schemas/{_row_name(name)}"}}


def _row_name(name: str) -> str:
    return f"{name}_row"


def _numbers(key: str) -> dict[str, Any]:
    return _object({key: {"type": "array", "items": {"type": "number"}}}, [key])


def _object(properties: dict[str, Any], required: list[str], *, more: bool = False) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}
