"""Everything that can be asked beside predictions: health, status, metadata, history, the OpenAPI page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct import __version__
from ct.rollout import ModelStore
from serving.web import openapi
from serving.web.messages import VERSION_HEADER, Response, json_response
from serving.web.protocols import open_inference, tensorflow_serving

if TYPE_CHECKING:
    from ct.home import Home
    from serving.plane.data_plane import DataPlane
    from serving.plane.table import ServedModel
    from serving.plane.version import LoadedVersion
    from serving.web.messages import Request
    from serving.web.routes import Target


class Information:
    """Answers from what is loaded; only the history reads a file."""

    def __init__(self, plane: DataPlane, home: Home, *, needs_token: bool) -> None:
        self._plane = plane
        self._home = home
        self._needs_token = needs_token

    def live(self, _request: Request, _target: Target) -> Response:
        """The process answers."""
        return json_response(200, {"status": "alive", "live": True})

    def ready(self, _request: Request, _target: Target) -> Response:
        """A model serves. One that cannot be loaded does not make this worker unready: the others are answered."""
        models = {name: model.serving.version for name, model in self._plane.models.items()}
        if not models:
            reason = "no model serves yet; the first approved version will"
            return json_response(503, {"error": reason, "ready": False})
        return json_response(200, {"models": models, "ready": True})

    def version(self, _request: Request, _target: Target) -> Response:
        """Which ct answers."""
        return Response(200, __version__.encode(), b"text/plain; charset=utf-8")

    def server(self, _request: Request, _target: Target) -> Response:
        """Open Inference Protocol's server metadata."""
        extensions = ["binary_tensor_data", "model_repository"]
        return json_response(200, {"name": "ct", "version": __version__, "extensions": extensions})

    def index(self, _request: Request, _target: Target) -> Response:
        """Every loaded version of every model, as Triton's model repository extension lists them."""
        found = [
            {"name": name, "version": str(version), "state": "READY", "reason": ""}
            for name, model in sorted(self._plane.models.items())
            for version in sorted(model.loaded)
        ]
        return json_response(200, found)

    def status(self, _request: Request, target: Target) -> Response:
        """TensorFlow Serving's model status: of one version, or of all that are loaded."""
        model, version = self._asked(target)
        of_one = target.version is not None or target.label is not None
        versions = [version.version] if of_one else list(model.loaded)
        return json_response(200, tensorflow_serving.status(versions), _header(version))

    def metadata(self, _request: Request, target: Target) -> Response:
        """TensorFlow Serving's model metadata."""
        _, version = self._asked(target)
        return json_response(200, tensorflow_serving.metadata(version), _header(version))

    def v2_metadata(self, _request: Request, target: Target) -> Response:
        """Open Inference Protocol's model metadata."""
        model, version = self._asked(target)
        return json_response(200, open_inference.metadata(model.name, version, list(model.loaded)), _header(version))

    def v2_ready(self, _request: Request, target: Target) -> Response:
        """A model, or one version of it, can be asked."""
        model, version = self._asked(target)
        return json_response(200, {"name": model.name, "ready": True}, _header(version))

    def history(self, _request: Request, target: Target) -> Response:
        """What served when, who changed it and why; oldest first."""
        model, _ = self._asked(target)
        entries = ModelStore(self._home, model.name).history()
        return json_response(200, {"name": model.name, "history": [entry.model_dump(mode="json") for entry in entries]})

    def openapi(self, _request: Request, _target: Target) -> Response:
        """The description of every route, with each model's own features."""
        return json_response(200, openapi.describe(self._plane.models, needs_token=self._needs_token))

    def docs(self, _request: Request, _target: Target) -> Response:
        """The same for people."""
        return Response(200, openapi.PAGE, b"text/html; charset=utf-8")

    def _asked(self, target: Target) -> tuple[ServedModel, LoadedVersion]:
        model = self._plane.model(target.model or "")
        return model, self._plane.pinned(model, target.version, target.label)


def _header(version: LoadedVersion) -> tuple[tuple[bytes, bytes], ...]:
    return ((VERSION_HEADER, b"%d" % version.version),)
