"""One request on its way: admitted by its head, read, predicted or answered otherwise, and noted."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from serving.plane.batcher import OverloadedError
from serving.web.failures import RETRY_AFTER, failure
from serving.web.messages import VERSION_HEADER, HttpError, Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    import numpy as np

    from serving.plane.data_plane import Chosen
    from serving.web.front import Front
    from serving.web.messages import Decoded, Request
    from serving.web.routes import Target

    Respond = Callable[[Response], None]
    Predictions = np.ndarray[Any, Any]

LOG = logging.getLogger("ct.serving")
MAX_HELD_BYTES = 512 * 1024 * 1024
"""Of all bodies in a worker together; each has a limit of its own."""
VARIANT_HEADER, REQUEST_ID, TRACEPARENT = b"ct-model-variant", b"x-request-id", b"traceparent"
AUTHORIZATION, CONTENT_ENCODING = b"authorization", b"content-encoding"
TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
USABLE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
LARGE_BODY_BYTES = 32 * 1024
"""Larger bodies are read in a thread: this much JSON takes about half a millisecond."""


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
        self._finish(failure(error, self.request_id, self.target.protocol if self.target is not None else ""))

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
