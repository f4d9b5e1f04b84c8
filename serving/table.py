"""Which versions are loaded and which one answers: an immutable picture, replaced in one assignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving.version import LoadedVersion


@dataclass(frozen=True)
class ServedModel:
    """One model's loaded versions. A request takes this once and is answered by it wholly."""

    name: str
    serving: LoadedVersion
    loaded: Mapping[int, LoadedVersion]


@dataclass
class ModelTable:
    """Model name -> what serves. Requests read `models`; only the follower replaces it.

    A version that a swap drops lives until the last request that took it has been answered.
    """

    models: Mapping[str, ServedModel] = field(default_factory=lambda: MappingProxyType({}))

    def put(self, model: ServedModel) -> None:
        """Let a model's new picture answer from the next request on."""
        self.models = MappingProxyType({**self.models, model.name: model})
