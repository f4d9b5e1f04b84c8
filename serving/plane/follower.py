"""Follows the model store: loads what should serve beside what does, proves it, swaps, and reports what it reached."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from watchfiles import watch

from ct.contracts import DesiredState, WorkerState
from ct.errors import CTError, RolloutError
from ct.rollout import ModelStore, announce_worker
from ct.rollout.process import started_at
from serving.plane.table import ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchfiles import Change

    from ct.home import Home
    from serving.plane.table import ModelTable
    from serving.plane.version import LoadedVersion

LOG = logging.getLogger("ct.serving")
DEBOUNCE_MS, STEP_MS = 20, 5
LOOK_ANYWAY_MS = 1000
"""File systems without notification are still looked at this often."""


class Follower:
    """A thread of each serving worker. `start` returns once what should serve now has been dealt with.

    Args:
        home: CT_HOME; every folder under models/ with a desired.json is a model.
        table: what requests read.
        memory_mb: MiB that all loaded versions may take; the oldest warm ones go first, and never one that answers.
        tick: called about once a second.
    """

    def __init__(self, home: Home, table: ModelTable, memory_mb: float, tick: Callable[[], None]) -> None:
        self._home = home
        self._table = table
        self._memory_mb = memory_mb
        self._tick = tick
        self._reached: dict[str, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Load what should serve, then follow in the background."""
        announce_worker(self._home, _worker_state(0, None, None))
        self._catch_up()
        self._thread.start()

    def stop(self) -> None:
        """Stop following; what is loaded answers on."""
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        changes = watch(
            self._home.models,
            watch_filter=_is_desired_state,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=LOOK_ANYWAY_MS,
            yield_on_timeout=True,
            stop_event=self._stopped,
            raise_interrupt=False,
        )
        for _ in changes:
            try:
                self._catch_up()
                self._tick()
            except Exception:  # what is loaded answers on, and the next turn tries again
                LOG.exception("this worker could not follow the model store in %s", self._home.models)

    def _catch_up(self) -> None:
        for path in sorted(self._home.models.glob("*/desired.json")):
            store = ModelStore(self._home, path.parent.name)
            desired = store.desired()
            if desired is not None and desired.generation != self._reached.get(desired.name):
                self._reach(store, desired)

    def _reach(self, store: ModelStore, desired: DesiredState) -> None:
        """Let the desired versions answer, or keep what answers and say why; then see to the other warm versions."""
        current = self._table.models.get(store.name)
        error = None
        try:
            current = self._picture(store, desired, current)
        except CTError as refused:
            LOG.exception("generation %d of %s is refused", desired.generation, store.name)
            error = refused.message
            current = current or _previous(store, desired)
        if current is not None:
            self._table.put(current)
        self._reached[store.name] = desired.generation
        self._report(store, desired, current, error)
        if current is not None and error is None:
            self._keep_warm(store, desired, current)

    @staticmethod
    def _picture(store: ModelStore, desired: DesiredState, current: ServedModel | None) -> ServedModel:
        """What is desired, loaded beside what answers meanwhile; both are in memory for that time.

        Raises:
            CTError: a version does not load or is not what it was offline, or canary or shadow take other features.
        """
        loaded = dict(current.loaded) if current else {}
        serving = _load(store, loaded, desired.version)
        canary = _load(store, loaded, desired.canary.version) if desired.canary else None
        shadow = _load(store, loaded, desired.shadow) if desired.shadow else None
        for beside in (canary, shadow):
            if beside is not None and beside.layout != serving.layout:
                raise RolloutError(
                    f"version {beside.version} takes other features than version {serving.version}, and cannot answer "
                    "the same requests; only a full rollout can change the features",
                    name=store.name,
                    version=beside.version,
                )
        return ServedModel(store.name, serving, MappingProxyType(loaded), desired.canary, desired.shadow)

    def _keep_warm(self, store: ModelStore, desired: DesiredState, current: ServedModel) -> None:
        """Load the other versions that should be warm, and let go of those that should not or for which there is no room."""
        in_use = {current.serving.version, current.shadow, current.canary.version if current.canary else None}
        room_mb = self._memory_mb - sum(
            version.memory_mb
            for model in self._table.models.values()
            for version in model.loaded.values()
            if model.name != store.name or version.version in in_use
        )
        loaded = {version: current.loaded[version] for version in current.loaded if version in in_use}
        for version in desired.warm:
            if version in in_use:
                continue
            try:
                found = current.loaded.get(version) or _load(store, {}, version)
            except CTError as refused:
                LOG.warning("version %d of %s does not stay warm: %s", version, store.name, refused.message)
                continue
            room_mb -= found.memory_mb
            if room_mb < 0:
                LOG.warning("version %d of %s does not stay warm: no room in serving_memory_mb", version, store.name)
                break
            loaded[version] = found
        if loaded.keys() != current.loaded.keys():
            current = replace(current, loaded=MappingProxyType(loaded))
            self._table.put(current)
            self._report(store, desired, current, None)

    @staticmethod
    def _report(store: ModelStore, desired: DesiredState, current: ServedModel | None, error: str | None) -> None:
        store.report_worker(_worker_state(desired.generation, current, error))


def _worker_state(generation: int, current: ServedModel | None, error: str | None) -> WorkerState:
    """This process, and what it has of one model."""
    began = started_at(os.getpid())
    if began is None:
        raise RuntimeError("this process cannot find itself in /proc")
    return WorkerState(
        pid=os.getpid(),
        started_at=began,
        generation=generation,
        serving=current.serving.version if current else None,
        loaded=tuple(sorted(current.loaded)) if current else (),
        error=error,
    )


def _load(store: ModelStore, loaded: dict[int, LoadedVersion], version: int) -> LoadedVersion:
    """The version, from memory or from disk; it is among `loaded` then.

    Raises:
        UnknownVersionError, VersionRefusedError: it cannot serve.
    """
    # TensorFlow takes seconds and hundreds of MiB, and BentoML's supervisor, which imports this module, needs none of it.
    from serving.plane.version import load_version  # noqa: PLC0415

    if version not in loaded:
        loaded[version] = load_version(store, version)
    return loaded[version]


def _previous(store: ModelStore, desired: DesiredState) -> ServedModel | None:
    """What served before, for a worker that starts and cannot load what should serve. Its report still carries the error."""
    if desired.previous is None:
        return None
    loaded: dict[int, LoadedVersion] = {}
    try:
        return ServedModel(store.name, _load(store, loaded, desired.previous), MappingProxyType(loaded))
    except CTError:
        LOG.exception("version %d of %s is refused too", desired.previous, store.name)
        return None


def _is_desired_state(_change: Change, path: str) -> bool:
    return os.path.basename(path) == "desired.json"  # noqa: PTH119  called for every file event
