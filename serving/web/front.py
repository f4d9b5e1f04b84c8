"""The door: which paths are ours, what each of them is, and what the requests of a worker share."""

from __future__ import annotations

import itertools
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from serving.web.access import ADMIN, NONE, PREDICT, READ
from serving.web.exchange import Exchange
from serving.web.messages import HttpError
from serving.web.protocols import bentoml, mlflow_scoring, open_inference, tensorflow_serving
from serving.web.routes import LABEL, MODEL, VERSION, Routes, Target

if TYPE_CHECKING:
    from collections.abc import Collection

    from ct.settings import Settings
    from serving.logs.access_log import AccessLog
    from serving.metrics import Metrics
    from serving.plane.data_plane import DataPlane
    from serving.web.access import Access
    from serving.web.admin import Admin
    from serving.web.exchange import Respond
    from serving.web.information import Information
    from serving.web.messages import Request
    from serving.web.tracing import Tracing

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
