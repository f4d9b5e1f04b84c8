"""From a request to the data plane and back. Every answer that is not BentoML's own is made here."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from serving.plane.batcher import OverloadedError, PredictionError
from serving.plane.data_plane import NotServedError
from serving.rows import BadRequestError, TooLargeError
from serving.web.access import ADMIN, NONE, PREDICT, READ
from serving.web.information import VERSION_HEADER
from serving.web.messages import HttpError, Response, json_response
from serving.web.protocols import mlflow_scoring, open_inference, tensorflow_serving
from serving.web.routes import LABEL, MODEL, VERSION, Routes, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ct.settings import Settings
    from serving.logs.access_log import AccessLog
    from serving.metrics import Metrics
    from serving.plane.data_plane import Chosen, DataPlane
    from serving.web.access import Access
    from serving.web.admin import Admin
    from serving.web.information import Information
    from serving.web.messages import Decoded, Request
    from serving.web.tracing import Tracing

    Respond = Callable[[Response], None]
    Predictions = np.ndarray[Any, Any]

LOG = logging.getLogger("ct.serving")
PREFIXES = ("/v1/", "/v2/")
PATHS = frozenset({"/", "/v2", "/livez", "/readyz", "/invocations", "/ping", "/version", "/openapi.json", "/docs"})
VARIANT_HEADER, REQUEST_ID, TRACEPARENT = b"ct-model-variant", b"x-request-id", b"traceparent"
AUTHORIZATION, CONTENT_ENCODING = b"authorization", b"content-encoding"
RETRY_AFTER = ((b"retry-after", b"1"),)
TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
USABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
LARGE_BODY_BYTES = 32 * 1024
"""Larger bodies are read in a thread: this much JSON takes about half a millisecond."""


class Front:
    """Answers requests. `handle` calls `respond` exactly once, at once or later, on the event loop's thread."""

    def __init__(
        self,
        plane: DataPlane,
        information: Information,
        admin: Admin,
        access: Access,
        settings: Settings,
        metrics: Metrics,
        log: AccessLog,
        tracing: Tracing | None,
    ) -> None:
        self.plane = plane
        self.access = access
        self.routes = Routes(_table(information, admin))
        self.max_rows = settings.serving_max_rows
        self._max_concurrent = settings.serving_max_concurrent
        self.metrics = metrics
        self.log = log
        self.tracing = tracing
        self.in_flight = 0
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)

    @staticmethod
    def takes(path: str) -> bool:
        """Whether a path is ours; any other is BentoML's."""
        return path.startswith(PREFIXES) or path in PATHS

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request."""
        _Exchange(self, request, respond).begin()

    def new_id(self) -> str:
        """An id for a request that brought none; no two workers make the same."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def limit(self, request: Request) -> None:
        """Refuse what is too much, or cannot be read.

        Raises:
            HttpError: 429 past the concurrency limit, 415 for a compressed body.
        """
        if self.in_flight > self._max_concurrent:
            message = f"{self._max_concurrent} requests are being answered already; try again"
            raise HttpError(429, message, headers=RETRY_AFTER)
        if request.header(CONTENT_ENCODING) not in (None, b"identity"):
            raise HttpError(415, "the body must not be compressed")

    def model_of(self, target: Target, request: Request) -> str:
        """The model that a request is for: in its path, or for MLflow's route in `?model=` unless only one serves.

        Raises:
            HttpError: 400 or 404, it cannot be told.
        """
        if target.model is not None:
            return target.model
        named = parse_qs(request.query.decode("latin-1")).get("model")
        if named:
            return named[0][:100]
        known = sorted(self.plane.models)
        if len(known) == 1:
            return known[0]
        if not known:
            raise HttpError(404, "no model serves yet; the first approved version will")
        raise HttpError(400, f"several models serve; name one, for example /invocations?model={known[0]}")


class _Exchange:
    """One request on its way: begun, perhaps waiting for its batch, answered once."""

    __slots__ = (
        "at",
        "began",
        "chosen",
        "decoded",
        "front",
        "request",
        "request_id",
        "respond",
        "target",
        "token",
        "trace_id",
    )

    def __init__(self, front: Front, request: Request, respond: Respond) -> None:
        self.at = time.time()
        self.began = time.perf_counter()
        self.front = front
        self.request = request
        self.respond = respond
        self.target: Target | None = None
        self.chosen: Chosen | None = None
        self.decoded: Decoded | None = None
        self.token: str | None = None
        given, trace = request.header(REQUEST_ID), request.header(TRACEPARENT)
        self.request_id = given.decode() if given and USABLE_ID.fullmatch(given) else front.new_id()
        match = TRACE.fullmatch(trace) if trace is not None else None
        self.trace_id = match[1].decode() if match else None

    def begin(self) -> None:
        front, request = self.front, self.request
        front.in_flight += 1
        try:
            self.target = target = front.routes.find(request.method, request.path)
            self.token = front.access.check(request.header(AUTHORIZATION), target.scope)
            if target.decode is None:
                self._answer(target)
                return
            front.limit(request)
            self.chosen = front.plane.choose(
                front.model_of(target, request), target.version, target.label, request.header
            )
            if len(request.body) <= LARGE_BODY_BYTES:
                self._predict(self._decode())
            else:
                self._in_thread(self._decode, self._predict)
        except Exception as error:  # noqa: BLE001  _fail knows each kind, and logs what it does not know
            self._fail(error)

    def _answer(self, target: Target) -> None:
        """Something else than a prediction."""
        answer = target.answer
        if answer is None:
            raise AssertionError(f"a target must predict or answer: {target}")
        self.request.token = self.token
        if target.waits:
            self._in_thread(lambda: answer(self.request, target), self._finish)
        else:
            self._finish(answer(self.request, target))

    def _decode(self) -> Decoded:
        target, chosen = self.target, self.chosen
        if target is None or target.decode is None or chosen is None:
            raise AssertionError("only a prediction's body is decoded, after its version is chosen")
        return target.decode(self.request, chosen.version.layout, self.front.max_rows)

    def _predict(self, decoded: Decoded) -> None:
        if self.chosen is None:
            raise AssertionError("a version is chosen before the body is decoded")
        self.decoded = decoded
        self.chosen = self.front.plane.settle(self.chosen, decoded.rows)
        self.front.plane.predict(self.chosen.version, decoded.rows, self._done)

    def _done(self, predictions: Predictions | None, error: Exception | None) -> None:
        """The batch has run, or never will."""
        chosen, decoded = self.chosen, self.decoded
        if predictions is None or chosen is None or decoded is None:
            self._fail(error or RuntimeError("neither predictions nor an error"))
            return
        try:
            encoded = decoded.encode(predictions, chosen.version)
            self._finish(Response(200, encoded.body, encoded.content_type, encoded.headers))
            self.front.plane.remember(
                chosen, decoded.rows, predictions, request_id=self.request_id, trace_id=self.trace_id, at=self.at
            )
        except Exception:  # one request's trouble must not stop the batch's other answers
            LOG.exception("request %s could not be answered or remembered", self.request_id)

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        loop = asyncio.get_running_loop()

        def back(future: asyncio.Future[Any]) -> None:
            try:
                then(future.result())
            except Exception as error:  # noqa: BLE001  as in `begin`
                self._fail(error)

        loop.run_in_executor(self.front.plane.threads, work).add_done_callback(back)

    def _fail(self, error: Exception) -> None:
        """An answer that says what is wrong; never a stack trace."""
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if isinstance(error, HttpError):
            status, message, headers = error.status, str(error), error.headers
        elif isinstance(error, NotServedError):
            status, message = 404, str(error)
        elif isinstance(error, BadRequestError):
            status, message = 400, str(error)
        elif isinstance(error, TooLargeError):
            status, message = 413, str(error)
        elif isinstance(error, OverloadedError):
            status, message, headers = 503, f"overloaded: {error}; try again", RETRY_AFTER
        elif isinstance(error, PredictionError):
            status, message = 500, f"{error} (request {self.request_id})"
        else:
            LOG.error("request %s failed in an unforeseen way", self.request_id, exc_info=error)
            status, message = 500, f"ct failed in an unforeseen way; its log has more (request {self.request_id})"
        body: dict[str, Any] = {"error": message}
        if self.target is not None and self.target.protocol == mlflow_scoring.PROTOCOL:
            body = mlflow_scoring.error(status, message)
        self._finish(json_response(status, body, headers))

    def _finish(self, response: Response) -> None:
        """Send the answer, and note it."""
        front, request, chosen = self.front, self.request, self.chosen
        front.in_flight -= 1
        model, version, variant = None, 0, ""
        own: tuple[tuple[bytes, bytes], ...] = ((REQUEST_ID, self.request_id.encode()),)
        if chosen is not None:
            model, version, variant = chosen.model.name, chosen.version.version, chosen.variant
            own = (*own, (VERSION_HEADER, b"%d" % version), (VARIANT_HEADER, variant.encode()))
        response.headers = (*own, *response.headers) if response.headers else own
        self.respond(response)
        seconds = time.perf_counter() - self.began
        protocol = self.target.protocol if self.target is not None else ""
        front.metrics.answered(model or "", version, variant, protocol, response.status, seconds)
        front.log.add(
            self.at,
            self.request_id,
            self.trace_id,
            request.client,
            request.method,
            request.path,
            response.status,
            model,
            version or None,
            variant or None,
            protocol or None,
            self.decoded.rows.count if self.decoded is not None else 0,
            len(request.body),
            len(response.body),
            seconds,
            self.token,
        )
        if front.tracing is not None:
            more = {"ct.model": model, "ct.version": version or None, "ct.request_id": self.request_id}
            name = f"{protocol} {model}" if model else protocol or request.method
            front.tracing.record(request, name, self.at, seconds, response.status, more)


def _table(about: Information, admin: Admin) -> list[tuple[str, Target]]:
    tfs, v2, mlflow, ct = "tensorflow_serving", "open_inference", mlflow_scoring.PROTOCOL, "ct"
    v1_model = f"/v1/models/{MODEL}(?:{VERSION}|{LABEL})?"
    v2_model = f"/v2/models/{MODEL}(?:{VERSION})?"
    return [
        (f"{v1_model}:predict", Target(tfs, "POST", PREDICT, decode=tensorflow_serving.decode)),
        (f"{v1_model}/metadata", Target(tfs, "GET", READ, about.metadata)),
        (v1_model, Target(tfs, "GET", READ, about.status)),
        (f"/v1/models/{MODEL}/history", Target(ct, "GET", READ, about.history)),
        (f"/v1/models/{MODEL}:rollback", Target(ct, "POST", ADMIN, admin.rollback, waits=True)),
        (f"{v2_model}/infer", Target(v2, "POST", PREDICT, decode=open_inference.decode)),
        (f"{v2_model}/ready", Target(v2, "GET", NONE, about.v2_ready)),
        (v2_model, Target(v2, "GET", READ, about.v2_metadata)),
        ("/v2/health/live", Target(v2, "GET", NONE, about.live)),
        ("/v2/health/ready", Target(v2, "GET", NONE, about.ready)),
        ("/v2/repository/index", Target(v2, "POST", READ, about.index)),
        ("/v2/?", Target(v2, "GET", READ, about.server)),
        ("/invocations", Target(mlflow, "POST", PREDICT, decode=mlflow_scoring.decode)),
        ("/ping", Target(mlflow, "GET", NONE, about.ready)),
        ("/version", Target(mlflow, "GET", READ, about.version)),
        ("/livez", Target(ct, "GET", NONE, about.live)),
        ("/readyz", Target(ct, "GET", NONE, about.ready)),
        ("/openapi.json", Target(ct, "GET", READ, about.openapi)),
        ("/|/docs", Target(ct, "GET", NONE, about.docs)),
    ]
