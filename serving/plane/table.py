"""Which versions are loaded and which one answers: an immutable picture, replaced in one assignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct.contracts import Canary
    from serving.plane.version import LoadedVersion

HASH_BYTES = 4
HASHES = 1 << 8 * HASH_BYTES


@dataclass(frozen=True)
class ServedModel:
    """One model's loaded versions. A request takes this once and is answered by it wholly."""

    name: str
    serving: LoadedVersion
    loaded: Mapping[int, LoadedVersion]
    canary: Canary | None = None
    shadow: int | None = None
    """`canary.version` and `shadow` are among `loaded`, and take the same features as `serving`."""

    def for_key(self, key: str | None) -> LoadedVersion:
        """Who answers a request with this key: always the same, also in another worker and after the share has grown."""
        canary = self.canary
        if canary is None or key is None:
            return self.serving
        # Salted with the version, so that it is not the same clients who get every canary. A CRC would not do: it is linear,
        # and a salt moves all keys by one constant, so that two canaries share most of their clients.
        salted = f"{self.name}:{canary.version}:{key}".encode()
        point = int.from_bytes(blake2b(salted, digest_size=HASH_BYTES).digest(), "big") / HASHES
        return self.loaded[canary.version] if point < canary.share else self.serving


@dataclass
class ModelTable:
    """Model name -> what serves. Requests read `models`; only the follower replaces it.

    A version that a swap drops lives until the last request that took it has been answered.
    """

    models: Mapping[str, ServedModel] = field(default_factory=lambda: MappingProxyType({}))

    def put(self, model: ServedModel) -> None:
        """Let a model's new picture answer from the next request on."""
        self.models = MappingProxyType({**self.models, model.name: model})

    def drop(self, name: str) -> None:
        """Let a model answer no more."""
        self.models = MappingProxyType({other: served for other, served in self.models.items() if other != name})
