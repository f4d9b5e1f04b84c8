"""The routes on a real socket in this process: uvicorn's server, our protocol, a model of Python."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from ct.contracts import Feature
from ct.home import Home
from ct.settings import Settings
from ct.tokens import TokenStore
from serving.logs.access_log import AccessLog
from serving.logs.prediction_log import PredictionLog
from serving.metrics import Metrics
from serving.plane.data_plane import DataPlane
from serving.plane.mirror import Mirrors
from serving.plane.table import ModelTable, ServedModel
from serving.rows import Layout
from serving.web.access import Access
from serving.web.admin import Admin
from serving.web.asgi import Guarded
from serving.web.front import Front
from serving.web.information import Information
from serving.web.uvicorn_protocol import FrontProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from serving.rows import Rows

FEATURES = (Feature(name="carrier", dtype="string"), Feature(name="distance", dtype="float32"))
ROW = {"carrier": "UA", "distance": 2.0}


class PythonVersion:
    """A loaded version whose predictions are a tenth of the distance; `predict` can be replaced."""

    def __init__(self, version: int = 1, *, inline_rows: int = 64) -> None:
        self.version = version
        self.inline_rows = inline_rows
        self.layout = Layout(FEATURES)
        self.manifest = SimpleNamespace(name="trips", version=version)
        self.example = ROW
        self.memory_mb = 1.0
        self.batcher = None

    def predict(self, rows: Rows) -> np.ndarray[Any, Any]:
        return (np.array([distance for (distance,) in rows.floats], np.float32) / 10).astype(np.float32)


@dataclass
class Web:
    """What a test talks to."""

    port: int
    front: Front
    connections: set[Any]
    reached_bentoml: list[str] = field(default_factory=list)

    async def talk(self, sent: bytes, *, wait_s: float = 5, until: int | None = None, late_s: float = 0) -> bytes:
        """Send bytes on a connection of its own; what comes back until it closes, or until so many bytes of `HTTP/1.1 `."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        await asyncio.sleep(late_s)
        got = b""
        with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
            async with asyncio.timeout(wait_s):
                while until is None or got.count(b"HTTP/1.1 ") < until or not got.endswith((b"}", b"]", b"\r\n\r\n")):
                    part = await reader.read(65536)
                    if not part:
                        break
                    got += part
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return got


@pytest.fixture(scope="session")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """One a process: prometheus_client knows each name once."""
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(tmp_path_factory.mktemp("metrics")))
    return Metrics()


@pytest.fixture
def serve(tmp_path: Path, metrics: Metrics) -> Callable[..., contextlib.AbstractAsyncContextManager[Web]]:
    """Opens the routes over one version, with settings."""

    @contextlib.asynccontextmanager
    async def opened(
        version: Any = None, max_connections: int = 1000, keep_alive_s: int = 5, **values: Any
    ) -> AsyncIterator[Web]:
        settings = Settings(**{"access_log": False, "prediction_log_share": 0, **values})
        home = Home(tmp_path / "home").create()
        version = version or PythonVersion()
        table = ModelTable()
        table.put(ServedModel("trips", version, MappingProxyType({version.version: version})))
        plane = DataPlane(table, settings, metrics, PredictionLog(home, share=0, budget_mb=1), Mirrors(home, metrics))
        access = Access(TokenStore(home.tokens), required=settings.needs_token)
        information = Information(plane, home, needs_token=settings.needs_token)
        log = AccessLog(home, enabled=False)
        front = Front(plane, information, Admin(home), access, settings, metrics, log, None)
        web = Web(0, front, set())

        async def bentoml(scope: Any, _receive: Any, send: Any) -> None:
            web.reached_bentoml.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"{}"})

        config = uvicorn.Config(
            app=Guarded(access, bentoml), log_config=None, lifespan="off", timeout_keep_alive=keep_alive_s
        )
        config.load()
        state = ServerState()
        members = {
            "front": front,
            "max_body_bytes": int(settings.serving_max_body_mb * 1024 * 1024),
            "max_connections": max_connections,
            "timeout_s": settings.serving_timeout_s,
        }
        protocol: Any = type("Protocol", (FrontProtocol,), members)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        web.port, web.connections = server.sockets[0].getsockname()[1], state.connections
        try:
            yield web
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.close()
            front.close()
            plane.close()

    return opened
