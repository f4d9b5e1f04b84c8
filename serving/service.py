"""The BentoML service: `bentoml serve serving.service:Serving`.

CT_HOME says which model store it serves. It needs neither Airflow nor MLflow nor the daemon.
"""

from __future__ import annotations

from typing import Any

import attrs
import bentoml
from _bentoml_sdk.service.factory import Service

from ct.home import Home
from ct.settings import Settings
from serving.plane.batcher import OverloadedError, PredictionError
from serving.plane.data_plane import NotServedError
from serving.rows import BadRequestError, from_objects
from serving.worker import Worker

HOME = Home.from_environment()
SETTINGS = Settings.load(HOME)
WORKER = Worker(HOME, SETTINGS)
"""What this process serves; BentoML makes one service object a process, and the routes in front must see the same."""


@attrs.define
class FrontedService(Service[Any]):
    """A BentoML service with our routes in front of its application."""

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: FBT001, FBT002  BentoML's signature
        """BentoML's application behind our routes; called in each worker before its server is configured."""
        return WORKER.in_front_of(super().to_asgi(is_main))


class Predictor:
    """Serves every model of the store, by BentoML's own route `/predict` and its clients too."""

    @bentoml.on_startup
    def startup(self) -> None:
        """Load what should serve, then follow the store; requests are taken once this returns."""
        WORKER.start()

    @bentoml.api
    async def predict(self, model: str, instances: list[dict[str, Any]]) -> dict[str, Any]:
        """Predict rows with the version of a model that serves now.

        BentoML's clients learn the route from here. Over HTTP serving.web.protocols.bentoml answers it, with limits, logs and
        metrics; this body is for whoever uses the service as a dependency within BentoML.
        """
        try:
            chosen = WORKER.plane.choose(model, None, None, lambda _: None)
            rows = from_objects(chosen.version.layout, instances, "instances")
            predictions = await WORKER.plane.predicted(chosen.version, rows)
        except NotServedError as error:
            raise bentoml.exceptions.NotFound(str(error)) from error
        except BadRequestError as error:
            raise bentoml.exceptions.InvalidArgument(str(error)) from error
        except OverloadedError as error:
            raise bentoml.exceptions.ServiceUnavailable(str(error)) from error
        except PredictionError as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error
        return {"predictions": predictions.tolist()}

    @bentoml.on_shutdown
    def shutdown(self) -> None:
        """Stop following the store, write the logs; requests in flight have been answered."""
        WORKER.stop()


# mypy runs where BentoML is not installed and so knows no fields.
Serving = FrontedService(  # type: ignore[call-arg]
    name="Serving",
    config={
        "workers": SETTINGS.serving_workers,
        "traffic": {"timeout": SETTINGS.serving_timeout_s},
        "logging": {"access": {"enabled": False}},  # ours has every request that matters, and is bounded
    },
    inner=Predictor,
)
