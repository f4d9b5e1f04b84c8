"""One model as a worker follows it: what is desired, what is in memory, what was refused, and what answers for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ct.errors import CTError, RolloutError
from serving.plane.room import Needs, size_mb
from serving.plane.table import ServedModel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ct.contracts import Canary, DesiredState
    from ct.rollout import ModelStore
    from serving.plane.version import LoadedVersion

LOG = logging.getLogger("ct.serving")
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
CHAMPION, BESIDE, AGAIN, WARM = range(4)
"""The order of loading: what answers, then canary and shadow, then what was refused before, then what only stays warm."""


@dataclass(frozen=True)
class _Refusal:
    """A version did not load."""

    message: str
    tries: int
    again_at: float
    """In seconds of the follower's clock."""


class FollowedModel:
    """Used by the follower's thread alone. It loads nothing: what is `missing` is loaded elsewhere, and comes in by `take`."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self.generation = 0
        """The newest that was dealt with."""
        self.error: str | None = None
        """Why what answers is not what is desired."""
        self.pending = False
        """Whether something that is desired has not been tried yet."""
        self.desired: DesiredState | None = None
        """As last read; None before that, and once the first rollout was taken back."""
        self._loaded: dict[int, LoadedVersion] = {}
        self._refused: dict[int, _Refusal] = {}
        self._serving: LoadedVersion | None = None
        self._canary: Canary | None = None
        self._shadow: int | None = None
        self._warm: tuple[int, ...] = ()
        self._without_room: set[int] = set()
        self._complaint: str | None = None

    @property
    def picture(self) -> ServedModel | None:
        """What requests shall see; None when nothing answers."""
        if self._serving is None:
            return None
        loaded = MappingProxyType(dict(self._loaded))
        return ServedModel(self.store.name, self._serving, loaded, self._canary, self._shadow)

    def look(self) -> None:
        """Read what is desired, and let it answer as soon as all of it is in memory.

        Raises:
            RolloutError: what is desired cannot be known; what answers answers on.
        """
        desired = self.store.desired()
        if desired is None:
            self._end()
            return
        if desired != self.desired:
            self.desired, self.error, self._complaint = desired, None, None
            self._refused, self._without_room = {}, set()
        self._settle(desired)

    def take(self, version: int, loaded: LoadedVersion) -> None:
        """A version is in memory now."""
        self._loaded[version] = loaded
        self._refused.pop(version, None)

    def refuse(self, version: int, error: BaseException, now: float) -> None:
        """A version did not load. What is desired is tried again, at first soon; what only stays warm, at the next change."""
        tries = self._refused[version].tries + 1 if version in self._refused else 1
        wait_s = min(FIRST_RETRY_S * 2.0 ** (tries - 1), LONGEST_RETRY_S)
        message = error.message if isinstance(error, CTError) else f"version {version} does not load: {error!r}"
        self._refused[version] = _Refusal(message, tries, now + wait_s)
        then = f"it is tried again in {wait_s:.0f} s" if version in self._wanted() else "it does not stay warm"
        told = error if tries == 1 else None
        LOG.error("version %d of %s is refused, %s: %s", version, self.store.name, then, message, exc_info=told)

    def complain(self, error: Exception) -> None:
        """Something else went wrong with this model; the log says so once."""
        message = error.message if isinstance(error, CTError) else f"{self.store.name}: {error!r}"
        if message != self._complaint:
            LOG.error("this worker cannot follow %s: %s", self.store.name, message, exc_info=error)
        self.error, self.pending, self._complaint = message, False, message

    def missing(self, now: float) -> Iterator[tuple[int, int, int]]:
        """What is to be loaded, as (urgency, age, version): the least comes first. What was refused comes again in its time."""
        for age, version in enumerate(self._wanted()):
            if version in self._loaded:
                continue
            if version not in self._refused:
                beside = self.desired is not None and version not in (self.desired.version, self.desired.previous)
                yield BESIDE if beside else CHAMPION, age, version
            elif self._refused[version].again_at <= now:
                yield AGAIN, age, version
        for age, version in enumerate(self._warm):
            if version not in self._loaded and version not in self._refused:
                yield WARM, age, version

    def needs(self) -> Needs:
        """What is to have room. A warm version that does not load needs none.

        Raises:
            OSError: the size of its files cannot be read.
        """
        in_use = {self._serving.version} if self._serving else set()
        in_use |= {self._canary.version} if self._canary else set()
        in_use |= {self._shadow} if self._shadow is not None else set()
        always = in_use.union(self._wanted())
        warm = self.desired.warm if self.desired else ()
        return Needs(
            self.store.name,
            {version: self._size_mb(version) for version in always},
            {v: self._size_mb(v) for v in warm if v not in always and v not in self._refused},
        )

    def keep(self, needs: Needs, chosen: Collection[tuple[str, int]]) -> None:
        """Let go of all but what is needed always and the warm versions that have room."""
        self._warm = tuple(version for version in needs.warm if (needs.name, version) in chosen)
        for version in needs.warm:
            if version not in self._warm and version not in self._without_room:
                self._without_room.add(version)
                LOG.warning("version %d of %s does not stay warm: no room in serving_memory_mb", version, needs.name)
        stays = {*needs.always, *self._warm}
        self._loaded = {version: loaded for version, loaded in self._loaded.items() if version in stays}

    def _size_mb(self, version: int) -> float:
        loaded = self._loaded.get(version)
        return loaded.memory_mb if loaded else size_mb(self.store.version_path(version) / "saved_model")

    def _wanted(self) -> tuple[int, ...]:
        """What is desired, the champion first; where that is refused and nothing answers, what served before it too."""
        desired = self.desired
        if desired is None:
            return ()
        wanted = [desired.version, desired.canary.version if desired.canary else None, desired.shadow]
        if self._serving is None and desired.version in self._refused:
            wanted.append(desired.previous)
        return tuple(dict.fromkeys(version for version in wanted if version is not None))

    def _settle(self, desired: DesiredState) -> None:
        """Let what is desired answer, or what comes nearest to it, once everything has been tried."""
        wanted = self._wanted()
        self.pending = any(version not in self._loaded and version not in self._refused for version in wanted)
        if self.pending:
            return
        refused = [self._refused[version].message for version in wanted if version not in self._loaded]
        champion = self._loaded.get(desired.version)
        error = refused[0] if refused else self._misfit(desired)
        if champion is not None and error is None:
            self._serving, self._canary, self._shadow = champion, desired.canary, desired.shadow
        elif champion is not None and (self._serving is None or self._serving.version != desired.version):
            self._serving, self._canary, self._shadow = champion, None, None
        elif self._serving is None and desired.previous is not None:
            self._serving = self._loaded.get(desired.previous)
        self.generation, self.error = desired.generation, error

    def _misfit(self, desired: DesiredState) -> str | None:
        """Why canary or shadow cannot answer the champion's requests, when all three are in memory."""
        serving = self._loaded[desired.version]
        for version in (desired.canary.version if desired.canary else None, desired.shadow):
            if version is not None and self._loaded[version].layout != serving.layout:
                return (
                    f"version {version} takes other features than version {serving.version}, and cannot answer the same "
                    "requests; only a full rollout can change the features"
                )
        return None

    def _end(self) -> None:
        """Nothing is desired any more: the first rollout was taken back, and the model goes.

        Raises:
            RolloutError: it was no first rollout, so somebody has lost the file. What answers answers on.
        """
        if self.desired is None:
            return
        if self.store.history() or not self.store.root.is_dir():
            raise RolloutError(
                f'What "{self.store.name}" should serve is not known: {self.store.root / "desired.json"} is missing. '
                f"Generation {self.desired.generation} is serving on. Run `ct rollout {self.store.name} --version V` with the "
                f"version that `ct history {self.store.name}` names.",
                name=self.store.name,
            )
        self.generation, self.desired = self.desired.generation, None
        self.error, self.pending, self._refused = None, False, {}
        self._serving = self._canary = self._shadow = None
