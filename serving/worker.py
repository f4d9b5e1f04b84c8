"""One serving worker: its parts, made and wired once, started and stopped in order."""

from __future__ import annotations

import gc
import logging
import sys
from typing import TYPE_CHECKING, Any

from ct.tokens import TokenError, TokenStore
from serving.logs.access_log import AccessLog
from serving.logs.prediction_log import PredictionLog
from serving.metrics import Metrics, mark_dead_workers
from serving.plane.data_plane import DataPlane
from serving.plane.follower import Follower
from serving.plane.mirror import Mirrors
from serving.plane.table import ModelTable
from serving.web import tracing, uvicorn_protocol
from serving.web.access import Access
from serving.web.admin import Admin
from serving.web.asgi import Guarded
from serving.web.front import Front
from serving.web.information import Information

if TYPE_CHECKING:
    from ct.home import Home
    from ct.settings import Settings

LOG = logging.getLogger("ct.serving")
BYTES_A_MB = 1024 * 1024
GC_ALLOCATIONS = 50_000
SWITCH_S = 0.001
"""How long the event loop waits for another thread's Python; 5 ms, Python's own choice, would be the p99 of every request."""


class Worker:
    """Everything a process needs to answer. Making one starts nothing and imports no metrics; `in_front_of` comes first."""

    plane: DataPlane

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings

    def in_front_of(self, behind: Any) -> Any:
        """Our routes into uvicorn's protocol, and BentoML's application behind a guard."""
        from serving.plane.version import limit_threads  # noqa: PLC0415  TensorFlow, which BentoML's supervisor need not load

        home, settings = self._home, self._settings
        limit_threads(settings.serving_workers)
        metrics, table = Metrics(), ModelTable()
        self._tokens = TokenStore(home.tokens)
        self._access_log = AccessLog(home, enabled=settings.access_log)
        self._prediction_log = PredictionLog(
            home, share=settings.prediction_log_share, budget_mb=settings.prediction_log_mb
        )
        self._mirrors = Mirrors(home, metrics)
        self.plane = DataPlane(table, settings, metrics, self._prediction_log, self._mirrors)
        self._follower = Follower(home, table, settings.serving_memory_mb, self._tick)
        self._metrics = metrics
        self._counted = {"access": 0, "prediction": 0}
        access = Access(self._tokens, required=settings.needs_token)
        information = Information(self.plane, home, needs_token=settings.needs_token)
        self._tracing = tracing.configured()
        self._front = Front(
            self.plane, information, Admin(home), access, settings, metrics, self._access_log, self._tracing
        )
        max_body_bytes = int(settings.serving_max_body_mb * BYTES_A_MB)
        uvicorn_protocol.install(self._front, max_body_bytes=max_body_bytes, timeout_s=settings.serving_timeout_s)
        return Guarded(access, behind)

    def start(self) -> None:
        """Load what should serve now, then follow the store in the background."""
        # What TensorFlow's import made lives as long as the process; the collector looking through it takes 0.1 s each time.
        gc.collect()
        gc.freeze()
        # Parsing a large body makes a million objects, none of them garbage: looking through them each 700 takes a second.
        gc.set_threshold(GC_ALLOCATIONS)
        sys.setswitchinterval(SWITCH_S)
        mark_dead_workers()
        self._refresh_tokens()
        self._access_log.start()
        self._prediction_log.start()
        self._follower.start()

    def stop(self) -> None:
        """Called when every request in flight has been answered."""
        self._follower.stop()
        self._front.close()
        self.plane.close()
        self._mirrors.close()
        self._prediction_log.stop()
        self._access_log.stop()
        if self._tracing is not None:
            self._tracing.stop()
        self._count_lost()

    def _tick(self) -> None:
        """About once a second, in the follower's thread: what changes on disk or is counted elsewhere."""
        self._refresh_tokens()
        self._count_lost()
        self._mirrors.follow(self.plane.models.values())
        self.plane.gauge()
        for name, model in self.plane.models.items():
            self._metrics.serves(name, model.serving.version)

    def _count_lost(self) -> None:
        for name, log in (("access", self._access_log), ("prediction", self._prediction_log)):
            dropped = log.dropped
            if dropped > self._counted[name]:
                self._metrics.lost(name, dropped - self._counted[name])
                self._counted[name] = dropped

    def _refresh_tokens(self) -> None:
        try:
            self._tokens.refresh()
        except TokenError as error:
            LOG.error("%s", error.message)  # noqa: TRY400  the message says all; the store says each problem once
