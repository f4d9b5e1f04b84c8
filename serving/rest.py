"""TensorFlow Serving's REST routes, as an ASGI application in front of BentoML's.

It stands in front because BentoML's own middlewares cost more than the model: 3,000 requests a second here, 1,000 behind them.
Every path that is not ours goes on to BentoML.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from serving.codec import BadRequestError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from serving.table import ModelTable, ServedModel
    from serving.version import LoadedVersion

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSION_HEADER = b"ct-model-version"
MAX_BODY_BYTES = 32 * 1024 * 1024
PREDICT_THREADS = 2
ROUTE = re.compile(
    r"/v1/models/(?P<name>[a-z][a-z0-9_]*)(?:/versions/(?P<version>[0-9]{1,9}))?(?P<verb>:predict|/metadata)?"
)


class _RequestError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    version: int | None = None


class RestFront:
    """Answers `/v1/models/...`, `/livez` and `/readyz` from the model table; hands anything else to `behind`."""

    def __init__(self, table: ModelTable, behind: App) -> None:
        self._table = table
        self._behind = behind
        self._threads = ThreadPoolExecutor(PREDICT_THREADS, thread_name_prefix="predict")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request as an ASGI application."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(("/v1/", "/livez", "/readyz")):
            await self._behind(scope, receive, send)
            return
        try:
            answer = await self._answer(path, scope["method"], receive)
        except _RequestError as error:
            answer = _Answer(error.status, orjson.dumps({"error": str(error)}))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
        if answer.version is not None:
            headers.append((VERSION_HEADER, str(answer.version).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, path: str, method: str, receive: Receive) -> _Answer:
        if path == "/livez":
            return _Answer(200, b'{"status":"alive"}')
        if path == "/readyz":
            return self._ready()
        route = ROUTE.fullmatch(path)
        if route is None:
            raise _RequestError(404, f"no such path: {path[:200]}")
        wanted = "POST" if route["verb"] == ":predict" else "GET"
        if method != wanted:
            raise _RequestError(405, f"{path} takes {wanted}, not {method}")
        model = self._table.models.get(route["name"])
        if model is None:
            raise _RequestError(404, f'no model "{route["name"]}" serves; models: {_names(self._table.models)}')
        version = _version(model, route["version"])
        if route["verb"] == ":predict":
            return await self._predict(version, receive)
        if route["verb"] == "/metadata":
            return _Answer(200, orjson.dumps(_metadata(version)), version.version)
        return _Answer(200, orjson.dumps(_status(model, route["version"])), version.version)

    async def _predict(self, version: LoadedVersion, receive: Receive) -> _Answer:
        body = await _read(receive)
        try:
            request = decode(body, version.features)
        except BadRequestError as error:
            return _Answer(400, orjson.dumps({"error": str(error)}), version.version)
        loop = asyncio.get_running_loop()
        predicted = await loop.run_in_executor(self._threads, version.predict, request.columns)
        return _Answer(200, encode(predicted, columnar=request.columnar), version.version)

    def _ready(self) -> _Answer:
        models = {name: model.serving.version for name, model in self._table.models.items()}
        if not models:
            return _Answer(503, b'{"error":"no model serves yet; the first approved version will"}')
        return _Answer(200, orjson.dumps({"models": models}))


async def _read(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        _RequestError: 413 past MAX_BODY_BYTES.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RequestError(400, "the client went away before its request was whole")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _RequestError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return b"".join(parts)


def _version(model: ServedModel, number: str | None) -> LoadedVersion:
    if number is None:
        return model.serving
    version = model.loaded.get(int(number))
    if version is None:
        loaded = ", ".join(map(str, sorted(model.loaded)))
        raise _RequestError(404, f'version {number} of "{model.name}" is not loaded; loaded: {loaded}')
    return version


def _status(model: ServedModel, number: str | None) -> dict[str, Any]:
    """TensorFlow Serving's GetModelStatusResponse, newest version first."""
    versions = sorted(model.loaded, reverse=True) if number is None else [int(number)]
    states = [
        {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in versions
    ]
    return {"model_version_status": states}


def _metadata(version: LoadedVersion) -> dict[str, Any]:
    """TensorFlow Serving's GetModelMetadataResponse, of the one signature that is served."""
    kinds = {"string": "DT_STRING", "float32": "DT_FLOAT", "int64": "DT_INT64"}
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    inputs = {f.name: {"dtype": kinds[f.dtype], "tensor_shape": shape, "name": f.name} for f in version.features}
    outputs = {"probability": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "probability"}}
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    return {
        "model_spec": {"name": version.manifest.name, "signature_name": "", "version": str(version.version)},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def _names(models: Any) -> str:
    return ", ".join(sorted(models)) or "none yet"
