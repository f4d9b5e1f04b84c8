"""The BentoML service: `bentoml serve serving.service:Serving`.

CT_HOME says which model store it serves. It needs neither Airflow nor MLflow nor the daemon.
"""

from __future__ import annotations

from typing import Any

import attrs
import bentoml
from _bentoml_sdk.service.factory import Service

from ct.home import Home
from serving.codec import BadRequestError, columns_from_rows
from serving.follower import Follower
from serving.rest import VERSION_HEADER, RestFront
from serving.table import ModelTable

TABLE = ModelTable()
"""What this worker process serves; BentoML makes one service object a process, and the front must see the same table."""


@attrs.define
class FrontedService(Service[Any]):
    """A BentoML service with our REST routes in front of its application."""

    def to_asgi(self, is_main: bool = True) -> Any:  # noqa: FBT001, FBT002  BentoML's signature
        """BentoML's application behind the routes of serving.rest."""
        return RestFront(TABLE, super().to_asgi(is_main))


class Predictor:
    """Serves every model of the store, by BentoML's own route `/predict` too."""

    def __init__(self) -> None:
        self._follower = Follower(Home.from_environment(), TABLE)
        self._follower.start()

    @bentoml.api
    def predict(self, model: str, instances: list[dict[str, Any]], ctx: bentoml.Context) -> dict[str, Any]:
        """Predict rows with the version of a model that serves now."""
        served = TABLE.models.get(model)
        if served is None:
            raise bentoml.exceptions.NotFound(f'no model "{model}" serves')
        ctx.response.headers[VERSION_HEADER.decode()] = str(served.serving.version)
        try:
            columns = columns_from_rows(served.serving.features, instances)
        except BadRequestError as error:
            raise bentoml.exceptions.InvalidArgument(str(error)) from error
        return {"predictions": served.serving.predict(columns).tolist()}

    @bentoml.on_shutdown
    def shutdown(self) -> None:
        """Stop following the store; requests in flight are answered."""
        self._follower.stop()


# mypy runs where BentoML is not installed and so knows no fields.
Serving = FrontedService(name="Serving", config={"traffic": {"timeout": 60}}, inner=Predictor)  # type: ignore[call-arg]
