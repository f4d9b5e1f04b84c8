"""From a request to the data plane and back. Every answer that is not BentoML's own is made here."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qs

from ct.errors import CTError
from serving.plane.batcher import OverloadedError, PredictionError
from serving.plane.data_plane import NotServedError
from serving.rows import BadRequestError, TooLargeError
from serving.web.access import ADMIN, NONE, PREDICT, READ
from serving.web.messages import VERSION_HEADER, HttpError, Response, json_response
from serving.web.protocols import bentoml, mlflow_scoring, open_inference, tensorflow_serving
from serving.web.routes import LABEL, MODEL, VERSION, Routes, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Executor

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
PATHS = frozenset(
    {
        "/",
        "/v2",
        "/livez",
        "/readyz",
        "/invocations",
        "/ping",
        "/health",
        "/version",
        "/predict",
        "/openapi.json",
        "/docs",
    }
)
READ_THREADS, WAIT_THREADS = 2, 2
MAX_HELD_BYTES = 512 * 1024 * 1024
"""Of all bodies in a worker together; each has a limit of its own."""
VARIANT_HEADER, REQUEST_ID, TRACEPARENT = b"ct-model-variant", b"x-request-id", b"traceparent"
AUTHORIZATION, CONTENT_ENCODING = b"authorization", b"content-encoding"
RETRY_AFTER = ((b"retry-after", b"1"),)
TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
USABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
LARGE_BODY_BYTES = 32 * 1024
"""Larger bodies are read in a thread: this much JSON takes about half a millisecond."""


class Front:
    """Answers requests: `begin` with the head, then `Exchange.receive` with the body. On the event loop's thread only."""

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
        self.timeout_s = settings.serving_timeout_s
        self.max_concurrent = settings.serving_max_concurrent
        self.metrics = metrics
        self.log = log
        self.tracing = tracing
        self.in_flight = 0
        self.held_bytes = 0
        """Of all bodies that are here, whole or not."""
        self.connections: Collection[object] = ()
        """The open ones; the protocol sets it."""
        plane.pace.may_come = lambda: len(self.connections) > self.in_flight
        self.readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
        """For bodies that would hold the event loop up."""
        self.waiters = ThreadPoolExecutor(WAIT_THREADS, thread_name_prefix="wait")
        """For what waits for workers or disks; predictions have threads of their own."""
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)

    @staticmethod
    def takes(path: str) -> bool:
        """Whether a path is ours; any other is BentoML's."""
        return path.startswith(PREFIXES) or path in PATHS

    def begin(self, request: Request, respond: Respond) -> Exchange:
        """A request's head has come. `respond` is called exactly once, at once when the request is refused by its head."""
        exchange = Exchange(self, request, respond)
        exchange.begin()
        return exchange

    def close(self) -> None:
        """Let the threads go; called when no request is in flight any more."""
        self.readers.shutdown()
        self.waiters.shutdown()

    def new_id(self) -> str:
        """An id for a request that brought none; no two workers make the same."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def model_of(self, target: Target, request: Request) -> str:
        """The model that a request is for: in its path, in BentoML's body, or in MLflow's `?model=` unless only one serves.

        Raises:
            BadRequestError, HttpError: 400 or 404, it cannot be told.
        """
        if target.model is not None:
            return target.model
        if target.protocol == bentoml.PROTOCOL:
            return bentoml.model_named(request)
        named = parse_qs(request.query.decode("latin-1")).get("model")
        if named:
            return named[0][:100]
        known = sorted(self.plane.models)
        if len(known) == 1:
            return known[0]
        if not known:
            raise HttpError(404, "no model serves yet; the first approved version will")
        raise HttpError(400, f"several models serve; name one, for example /invocations?model={known[0]}")


class Exchange:
    """One request on its way: begun, perhaps waiting for its body and its batch, answered once."""

    __slots__ = (
        "answered",
        "at",
        "began",
        "chosen",
        "decoded",
        "front",
        "held_bytes",
        "request",
        "request_id",
        "respond",
        "target",
        "timer",
        "trace_id",
    )

    def __init__(self, front: Front, request: Request, respond: Respond) -> None:
        self.at = time.time()
        self.began = time.perf_counter()
        self.front = front
        self.request = request
        self.respond = respond
        self.answered = False
        self.held_bytes = 0
        self.timer: asyncio.TimerHandle | None = None
        """Of a large body."""
        self.target: Target | None = None
        self.chosen: Chosen | None = None
        self.decoded: Decoded | None = None
        given, trace = request.header(REQUEST_ID), request.header(TRACEPARENT)
        self.request_id = given.decode() if given and USABLE_ID.fullmatch(given) else front.new_id()
        match = TRACE.fullmatch(trace) if trace is not None else None
        self.trace_id = match[1].decode() if match else None

    def begin(self) -> None:
        """Admit the request by its head, before room is made for its body, or refuse it."""
        front, request = self.front, self.request
        front.in_flight += 1
        try:
            self.target = target = front.routes.find(request.method, request.path)
            request.token = front.access.check(request.header(AUTHORIZATION), target.scope)
            if target.decode is None and not target.waits:
                return
            if front.in_flight > front.max_concurrent:
                _refuse_as_too_many(front.max_concurrent)
            if request.header(CONTENT_ENCODING) not in (None, b"identity"):
                _refuse_as_compressed()
        except Exception as error:  # noqa: BLE001  _fail knows each kind, and logs what it does not know
            self._fail(error)

    def receive(self, body: bytes) -> None:
        """The body is whole."""
        target = self.target
        if self.answered or target is None:
            return
        self.request.body = body
        try:
            if target.decode is None:
                self._answer(target)
            elif len(body) <= LARGE_BODY_BYTES:
                self._predict(self._read(target))
            else:
                self.timer = asyncio.get_running_loop().call_later(self.front.timeout_s, self._expire)
                self._in_thread(self.front.readers, partial(self._read, target), self._predict)
        except Exception as error:  # noqa: BLE001  as in `begin`
            self._fail(error)

    def hold(self, count: int) -> None:
        """So many more bytes of the body are here; past what a worker may hold, the request is told to come again."""
        self.held_bytes += count
        self.front.held_bytes += count
        if self.front.held_bytes > MAX_HELD_BYTES:
            self._fail(OverloadedError(f"{self.front.held_bytes} bytes of bodies are here already"))

    def refuse(self, status: int, message: str) -> None:
        """Answer before the body is whole."""
        self._fail(HttpError(status, message))

    def abandon(self) -> None:
        """The client went away before its body was whole: there is nobody to answer."""
        if not self.answered:
            self._let_go()

    def _answer(self, target: Target) -> None:
        """Something else than a prediction."""
        answer = target.answer
        if answer is None:
            raise AssertionError(f"a target must predict or answer: {target}")
        if target.waits:
            self._in_thread(self.front.waiters, partial(answer, self.request, target), self._finish)
        else:
            self._finish(answer(self.request, target))

    def _read(self, target: Target) -> tuple[Chosen, Decoded]:
        """Who answers, and the rows. Perhaps in a thread: it changes nothing but the request's own `parsed`."""
        if target.decode is None:
            raise AssertionError("only a prediction's body is read")
        front, request = self.front, self.request
        name = front.model_of(target, request)
        chosen = front.plane.choose(name, target.version, target.label, request.header)
        decoded = target.decode(request, chosen.version.layout, front.max_rows)
        return front.plane.settle(chosen, decoded.rows), decoded

    def _predict(self, read: tuple[Chosen, Decoded]) -> None:
        if self.answered:
            return
        self.chosen, self.decoded = read
        left_s = self.front.timeout_s - (time.perf_counter() - self.began)
        deadline = asyncio.get_running_loop().time() + left_s
        self.front.plane.predict(self.chosen.version, self.decoded.rows, self._done, deadline)

    def _done(self, predictions: Predictions | None, error: Exception | None) -> None:
        """The batch has run, or never will."""
        chosen, decoded = self.chosen, self.decoded
        try:
            if predictions is None or chosen is None or decoded is None:
                self._fail(error or RuntimeError("neither predictions nor an error"))
                return
            encoded = decoded.encode(predictions, chosen.version)
            self._finish(Response(200, encoded.body, encoded.content_type, encoded.headers))
            self.front.plane.remember(
                chosen, decoded.rows, predictions, request_id=self.request_id, trace_id=self.trace_id, at=self.at
            )
        except Exception as trouble:  # one request's trouble must not stop the batch's other answers
            if self.answered:
                LOG.exception("request %s was answered, and could not be remembered", self.request_id)
            else:
                self._fail(trouble)

    def _in_thread(self, threads: Executor, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        def back(future: asyncio.Future[tuple[Any, Exception | None]]) -> None:
            result, error = future.result()
            if error is not None:
                self._fail(error)
                return
            try:
                then(result)
            except Exception as trouble:  # noqa: BLE001  as in `begin`
                self._fail(trouble)

        asyncio.get_running_loop().run_in_executor(threads, _caught, work).add_done_callback(back)

    def _expire(self) -> None:
        """A large body's whole time is over, wherever it is; one in the queue of a version is answered from there too."""
        self._fail(OverloadedError(f"no prediction within {self.front.timeout_s:g} s"))

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
        elif isinstance(error, CTError):
            status, message = 500, error.message
        else:
            LOG.error("request %s failed in an unforeseen way", self.request_id, exc_info=error)
            status, message = 500, f"ct failed in an unforeseen way; its log has more (request {self.request_id})"
        body: dict[str, Any] = {"error": message}
        if self.target is not None and self.target.protocol == mlflow_scoring.PROTOCOL:
            body = mlflow_scoring.error(status, message)
        self._finish(json_response(status, body, headers))

    def _finish(self, response: Response) -> None:
        """Send the answer, and note it."""
        if self.answered:
            return
        self._let_go()
        chosen = self.chosen
        model, version, variant = None, 0, ""
        own: tuple[tuple[bytes, bytes], ...] = ((REQUEST_ID, self.request_id.encode()),)
        if chosen is not None:
            model, version, variant = chosen.model.name, chosen.version.version, chosen.variant
            own = (*own, (VERSION_HEADER, b"%d" % version), (VARIANT_HEADER, variant.encode()))
        response.headers = (*own, *response.headers) if response.headers else own
        self.respond(response)
        try:
            self._note(response, model, version, variant)
        except Exception:  # the request is answered, and a full disk under the metrics must not answer it again
            LOG.exception("request %s was answered, and could not be noted", self.request_id)

    def _let_go(self) -> None:
        self.answered = True
        self.front.in_flight -= 1
        self.front.held_bytes -= self.held_bytes
        if self.timer is not None:
            self.timer.cancel()  # it would keep the body for the rest of its time

    def _note(self, response: Response, model: str | None, version: int, variant: str) -> None:
        front, request = self.front, self.request
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
            request.token,
        )
        if front.tracing is not None:
            more = {"ct.model": model, "ct.version": version or None, "ct.request_id": self.request_id}
            name = f"{protocol} {model}" if model else protocol or request.method
            front.tracing.record(request, name, self.at, seconds, response.status, more)


def _caught(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """The result or the error, as values: a future cannot hand on every exception, and a request would wait for ever."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001  whoever waits for it answers it
        return None, error


def _refuse_as_too_many(limit: int) -> NoReturn:
    raise HttpError(429, f"{limit} requests are being answered already; try again", headers=RETRY_AFTER)


def _refuse_as_compressed() -> NoReturn:
    raise HttpError(415, "the body must not be compressed")


def _table(about: Information, admin: Admin) -> list[tuple[str, Target]]:
    tfs, v2, mlflow, ct = "tensorflow_serving", "open_inference", mlflow_scoring.PROTOCOL, "ct"
    v1_model = f"/v1/models/{MODEL}(?:{VERSION}|{LABEL})?"
    v2_model = f"/v2/models/{MODEL}(?:{VERSION})?"
    return [
        (f"{v1_model}:predict", Target(tfs, "POST", PREDICT, decode=tensorflow_serving.decode)),
        (f"{v1_model}/metadata", Target(tfs, "GET", READ, about.metadata)),
        (v1_model, Target(tfs, "GET", READ, about.status)),
        (f"/v1/models/{MODEL}/history", Target(ct, "GET", READ, about.history, waits=True)),
        (f"/v1/models/{MODEL}:rollback", Target(ct, "POST", ADMIN, admin.rollback, waits=True)),
        (f"{v2_model}/infer", Target(v2, "POST", PREDICT, decode=open_inference.decode)),
        (f"{v2_model}/ready", Target(v2, "GET", NONE, about.v2_ready)),
        (v2_model, Target(v2, "GET", READ, about.v2_metadata)),
        ("/v2/health/live", Target(v2, "GET", NONE, about.live)),
        ("/v2/health/ready", Target(v2, "GET", NONE, about.ready)),
        ("/v2/repository/index", Target(v2, "POST", READ, about.index)),
        ("/v2/?", Target(v2, "GET", READ, about.server)),
        ("/invocations", Target(mlflow, "POST", PREDICT, decode=mlflow_scoring.decode)),
        ("/predict", Target(bentoml.PROTOCOL, "POST", PREDICT, decode=bentoml.decode)),
        ("/ping|/health", Target(mlflow, "GET", NONE, about.ready)),
        ("/version", Target(mlflow, "GET", READ, about.version)),
        ("/livez", Target(ct, "GET", NONE, about.live)),
        ("/readyz", Target(ct, "GET", NONE, about.ready)),
        ("/openapi.json", Target(ct, "GET", READ, about.openapi)),
        ("/|/docs", Target(ct, "GET", NONE, about.docs)),
    ]
