"""The OpenAPI description: every route, with each served model's own features, types and examples that work when pasted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct import __version__
from serving.plane.data_plane import CHAMPION, LABELS
from serving.web import openapi_bodies
from serving.web.openapi_bodies import an_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serving.plane.table import ServedModel
    from serving.web.openapi_bodies import Body

    Json = dict[str, Any]
    Paths = dict[str, dict[str, Json]]

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
ADMIN_ERRORS = (400, 401, 403, 404, 408, 409, 413, 415, 429)
READ_ERRORS = (401, 403)
OF_MODEL_ERRORS = (*READ_ERRORS, 404)
TOKEN: list[dict[str, list[str]]] = [{"token": []}]
LARGEST_VERSION = 999_999_999
"""serving.web.routes reads nine digits."""
SERVER = "server"

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
    """The description of what is served now, as JSON values; routes on which models are asked are there once a model is."""
    paths: Paths = {}
    for name, model in sorted(models.items()):
        paths |= _of_model(name, model)
    if models:
        paths |= _of_every_model(models)
    paths |= _of_server()
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "ct: served models",
            "version": __version__,
            "description": "The header `ct-model-version` of an answer says which version predicted it.",
        },
        "paths": paths,
        "components": {
            "schemas": openapi_bodies.schemas(models),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return {**document, "security": TOKEN} if needs_token else document


def _of_model(name: str, model: ServedModel) -> Paths:
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    number = {"type": "integer", "minimum": 1, "maximum": LARGEST_VERSION}
    no_part: tuple[str, list[Json], str] = "", [], ""
    version = "/versions/{version}", [_parameter("version", "path", number, model.serving.version)], ", of one version"
    label = "/labels/{label}", [_parameter("label", "path", {"enum": list(LABELS)}, CHAMPION)], ", of a label's version"
    rows = openapi_bodies.tensorflow_serving(name, model.serving)
    tensors = openapi_bodies.open_inference(model.serving)
    paths: Paths = {}
    for part, parameters, of in (no_part, version, label):
        status = _operation(name, f"What is loaded{of} (TensorFlow Serving).", OF_MODEL_ERRORS, parameters)
        signature = _operation(name, f"The model's signature{of} (TensorFlow Serving).", OF_MODEL_ERRORS, parameters)
        predict = _predict(name, f"Predict, in TensorFlow Serving's format{of}.", rows, parameters)
        paths |= {
            f"{v1}{part}:predict": {"post": predict},
            f"{v1}{part}": {"get": status},
            f"{v1}{part}/metadata": {"get": signature},
        }
    paths[f"{v1}/history"] = {
        "get": _operation(name, "What served when, who changed it and why.", (*OF_MODEL_ERRORS, 415, 429))
    }
    paths[f"{v1}:rollback"] = {"post": _rollback(name)}
    for part, parameters, of in (no_part, version):
        metadata = _operation(name, f"The model's metadata{of} (Open Inference Protocol).", OF_MODEL_ERRORS, parameters)
        predict = _predict(name, f"Predict, in the Open Inference Protocol v2{of}.", tensors, parameters)
        paths |= {
            f"{v2}{part}/infer": {"post": predict},
            f"{v2}{part}": {"get": metadata},
            f"{v2}{part}/ready": {"get": _open(name, f"Whether the model can be asked{of}.", (404,), parameters)},
        }
    return paths


def _of_every_model(models: Mapping[str, ServedModel]) -> Paths:
    names = sorted(models)
    named = _parameter("model", "query", {"enum": names}, names[0], required=len(names) > 1)
    tag = names[0] if len(names) == 1 else "every model"
    invocations = _predict(tag, "Predict, in MLflow's format.", openapi_bodies.mlflow(models), [named])
    return {
        "/invocations": {"post": invocations},
        "/predict": {"post": _predict(tag, "Predict, in BentoML's format.", openapi_bodies.bentoml(models))},
    }


def _of_server() -> Paths:
    ready = _open(SERVER, "Whether a model serves.", (503,))
    live = _open(SERVER, "Whether the process answers.", ())
    page = _open(SERVER, "This description, for people.", ())
    return {
        **{path: {"get": ready} for path in ("/readyz", "/v2/health/ready", "/ping", "/health")},
        **{path: {"get": live} for path in ("/livez", "/v2/health/live")},
        "/v2": {"get": _operation(SERVER, "Server metadata of the Open Inference Protocol.", READ_ERRORS)},
        "/v2/repository/index": {
            "post": _operation(SERVER, "Every loaded version of every model.", (*READ_ERRORS, 408, 413))
        },
        "/version": {"get": _operation(SERVER, "Which ct answers.", READ_ERRORS)},
        "/metrics": {"get": _operation(SERVER, "Prometheus metrics.", READ_ERRORS)},
        "/openapi.json": {"get": _operation(SERVER, "This description, for machines.", READ_ERRORS)},
        **{path: {"get": page} for path in ("/docs", "/")},
    }


def _rollback(name: str) -> Json:
    reason = {"type": "string", "maxLength": 500}
    keep = {"type": "boolean", "description": "Do not quarantine the version that served: a drill."}
    body = an_object({"to": {"type": "integer", "minimum": 1}, "reason": reason, "keep": keep}, [])
    summary = "Let an earlier version serve, now. Needs a token with the scope `admin`."
    operation = _operation(name, summary, ADMIN_ERRORS)
    return {**operation, "security": TOKEN, "requestBody": {"content": {"application/json": {"schema": body}}}}


def _predict(tag: str, summary: str, body: Body, parameters: Sequence[Json] = ()) -> Json:
    operation = _operation(tag, summary, PREDICT_ERRORS, parameters)
    examples = {name: {"value": value} for name, value in body.examples.items()}
    content: dict[str, Any] = {"application/json": {"schema": body.schema, "examples": examples}}
    if body.csv is not None:
        content["text/csv"] = {"schema": {"type": "string"}, "examples": {"csv": {"value": body.csv}}}
    operation["requestBody"] = {"required": True, "content": content}
    operation["responses"]["200"]["content"] = {"application/json": {"schema": body.answer}}
    return operation


def _open(tag: str, summary: str, errors: Sequence[int], parameters: Sequence[Json] = ()) -> Json:
    """What everyone may ask, whoever else needs a token."""
    return {**_operation(tag, summary, errors, parameters), "security": []}


def _operation(tag: str, summary: str, errors: Sequence[int], parameters: Sequence[Json] = ()) -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {str(code): {"description": REASONS[code], "content": content} for code in errors}
    operation = {"tags": [tag], "summary": summary, "responses": {"200": {"description": "Done."}, **answers}}
    return {**operation, "parameters": list(parameters)} if parameters else operation


def _parameter(name: str, place: str, schema: dict[str, Any], example: Any, *, required: bool = True) -> Json:
    return {"name": name, "in": place, "required": required, "schema": schema, "example": example}
