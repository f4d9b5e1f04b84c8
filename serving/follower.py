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
from ct.errors import CTError
from ct.rollout import ModelStore, announce_worker
from ct.rollout.process import started_at
from serving.table import ServedModel
from serving.version import LoadedVersion, load_version

if TYPE_CHECKING:
    from watchfiles import Change

    from ct.home import Home
    from serving.table import ModelTable

LOG = logging.getLogger("ct.serving")
DEBOUNCE_MS, STEP_MS = 20, 5
LOOK_ANYWAY_MS = 1000
"""File systems without notification are still looked at this often."""


class Follower:
    """A thread of each serving worker. `start` returns once what should serve now has been dealt with.

    Args:
        home: CT_HOME; every folder under models/ with a desired.json is a model.
        table: what requests read.
    """

    def __init__(self, home: Home, table: ModelTable) -> None:
        self._home = home
        self._table = table
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
            self._catch_up()

    def _catch_up(self) -> None:
        for path in sorted(self._home.models.glob("*/desired.json")):
            store = ModelStore(self._home, path.parent.name)
            desired = store.desired()
            if desired is not None and desired.generation != self._reached.get(desired.name):
                self._reach(store, desired)

    def _reach(self, store: ModelStore, desired: DesiredState) -> None:
        """Let the desired version answer, or keep what answers and say why; then see to the other warm versions."""
        current = self._table.models.get(store.name)
        error = None
        wanted: LoadedVersion | None
        try:
            # Loaded beside the old version, which answers meanwhile; both are in memory for that time.
            wanted = _loaded(current, desired.version) or load_version(store, desired.version)
        except CTError as refused:
            LOG.exception("version %d of %s is refused", desired.version, store.name)
            error = refused.message
            wanted = current.serving if current else _previous(store, desired)
        if wanted is not None:
            kept = dict(current.loaded) if current else {}
            current = ServedModel(store.name, wanted, MappingProxyType({**kept, wanted.version: wanted}))
            self._table.put(current)
        self._reached[store.name] = desired.generation
        self._report(store, desired, current, error)
        if current is not None and error is None:
            self._keep_warm(store, desired, current)

    def _keep_warm(self, store: ModelStore, desired: DesiredState, current: ServedModel) -> None:
        """Load the other versions that should be warm and let go of those that should not. Loading them may fail."""
        loaded = {version: current.loaded[version] for version in desired.warm if version in current.loaded}
        for version in desired.warm:
            if version not in loaded:
                try:
                    loaded[version] = load_version(store, version)
                except CTError as refused:
                    LOG.warning("version %d of %s does not stay warm: %s", version, store.name, refused.message)
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


def _loaded(current: ServedModel | None, version: int) -> LoadedVersion | None:
    return current.loaded.get(version) if current else None


def _previous(store: ModelStore, desired: DesiredState) -> LoadedVersion | None:
    """What served before, for a worker that starts and cannot load what should serve. Its report still carries the error."""
    if desired.previous is None:
        return None
    try:
        return load_version(store, desired.previous)
    except CTError:
        LOG.exception("version %d of %s is refused too", desired.previous, store.name)
        return None


def _is_desired_state(_change: Change, path: str) -> bool:
    return os.path.basename(path) == "desired.json"  # noqa: PTH119  called for every file event
