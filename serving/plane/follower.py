"""Follows the model store: loads what should serve beside what does, proves it, swaps, and reports what it reached."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ct.contracts import WorkerState
from ct.rollout import ModelStore, announce_worker
from ct.rollout.process import started_at
from serving.plane.followed import FollowedModel
from serving.plane.room import choose_warm
from serving.plane.watching import watch_desired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from ct.contracts import DesiredState
    from ct.home import Home
    from serving.plane.table import ModelTable
    from serving.plane.version import LoadedVersion

LOG = logging.getLogger("ct.serving")
LOOK_ANYWAY_S = 1.0
"""File systems without notification are still looked at this often."""


class Follower:
    """Three threads of each serving worker. `start` returns once what should serve now has been dealt with.

    The thread `follower` owns the table, the models' states and their reports: it alone reads and writes them, and it never
    waits for a load, so that a version which is in memory answers at once. The thread `loader` loads one version at a time,
    chosen by the follower, and hands it over as the result of a future. The thread `watcher` sees files change. Both only ever
    wake the follower, by an event.

    Args:
        home: CT_HOME; every folder under models/ with a desired.json is a model.
        table: what requests read.
        memory_mb: MiB that all loaded versions may take; the oldest warm ones go first, and never one that answers.
        tick: called at each turn of the follower's thread, about once a second or more often.
        load: for tests; by default serving.plane.version.load_version.
        clock: for tests; seconds.
    """

    def __init__(
        self,
        home: Home,
        table: ModelTable,
        memory_mb: float,
        tick: Callable[[], None],
        *,
        load: Callable[[ModelStore, int], LoadedVersion] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._table = table
        self._memory_mb = memory_mb
        self._tick = tick
        self._load = load or _load
        self._clock = clock
        self._models: dict[str, FollowedModel] = {}
        self._reported: dict[str, WorkerState] = {}
        self._loading: tuple[FollowedModel, DesiredState | None, int, Future[LoadedVersion]] | None = None
        self._wake = threading.Event()
        self._dealt_with = threading.Event()
        self._stopped = threading.Event()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._threads = [
            threading.Thread(
                target=watch_desired, args=(home.models, self._wake.set, self._stopped), name="watcher", daemon=True
            ),
            threading.Thread(target=self._follow, name="follower", daemon=True),
        ]

    def start(self) -> None:
        """Load what should serve, then follow in the background; warm versions come last, when requests are taken already."""
        self._nothing = _this_worker()
        announce_worker(self._home, self._nothing)
        for thread in self._threads:
            thread.start()
        self._dealt_with.wait()

    def stop(self) -> None:
        """Stop following; what is loaded answers on. A load that runs is waited for."""
        self._stopped.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self._loader.shutdown(cancel_futures=True)

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()  # before the look, so that what comes during it is seen by the next
            try:
                self._look()
            except Exception:  # what is loaded answers on, and the next turn tries again
                LOG.exception("this worker could not follow the model store in %s", self._home.models)
            if not any(model.pending for model in self._models.values()):
                self._dealt_with.set()
            try:
                self._tick()
            except Exception:  # the next turn tries again
                LOG.exception("what a worker does once a second failed")
            self._wake.wait(LOOK_ANYWAY_S)

    def _look(self) -> None:
        self._take_loaded()
        for path in self._home.models.glob("*/desired.json"):
            if path.parent.name not in self._models:
                self._models[path.parent.name] = FollowedModel(ModelStore(self._home, path.parent.name))
        for model in self._models.values():
            with _isolated(model):
                model.look()
            self._publish(model)
        self._make_room()
        self._load_next()

    def _publish(self, model: FollowedModel) -> None:
        """Let requests see a model as it is now, then say so."""
        with _isolated(model):
            name, picture = model.store.name, model.picture
            if picture is None and name in self._table.models:
                self._table.drop(name)
            elif picture is not None and picture != self._table.models.get(name):
                self._table.put(picture)
            state = self._state(model)
            if state != self._reported.get(name, self._nothing) and model.store.root.is_dir():
                model.store.report_worker(state)
                self._reported[name] = state

    def _state(self, model: FollowedModel) -> WorkerState:
        picture = model.picture
        return self._nothing.model_copy(
            update={
                "generation": model.generation,
                "serving": picture.serving.version if picture else None,
                "loaded": tuple(sorted(picture.loaded)) if picture else (),
                "error": model.error,
            }
        )

    def _make_room(self) -> None:
        """Let go of warm versions that have no room, before others are loaded."""
        needs = {}
        for name, model in self._models.items():
            with _isolated(model):
                needs[name] = model.needs()
        chosen = choose_warm(needs.values(), self._memory_mb)
        for name, need in needs.items():
            self._models[name].keep(need, chosen)
            self._publish(self._models[name])

    def _load_next(self) -> None:
        """Let the loader load what is most urgent, unless it is busy."""
        if self._loading is not None:
            return
        missing = [(*which, name) for name, model in self._models.items() for which in model.missing(self._clock())]
        if missing:
            _, _, version, name = min(missing)
            model = self._models[name]
            future = self._loader.submit(self._load, model.store, version)
            self._loading = (model, model.desired, version, future)
            future.add_done_callback(lambda _: self._wake.set())

    def _take_loaded(self) -> None:
        if self._loading is None or not self._loading[-1].done():
            return
        (model, desired, version, future), self._loading = self._loading, None
        error = future.exception()
        if error is None:
            model.take(version, future.result())
        elif model.desired == desired:  # else its files may have been mended since; it is tried anew
            model.refuse(version, error, self._clock())


@contextmanager
def _isolated(model: FollowedModel) -> Iterator[None]:
    """Whatever goes wrong with one model stays with it: the others are followed, and the tick comes."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the model logs and reports it
        model.complain(error)


def _this_worker() -> WorkerState:
    """This process, before it has dealt with any model."""
    began = started_at(os.getpid())
    if began is None:
        raise RuntimeError("this process cannot find itself in /proc")
    return WorkerState(pid=os.getpid(), started_at=began, generation=0, serving=None, loaded=())


def _load(store: ModelStore, version: int) -> LoadedVersion:
    # TensorFlow takes seconds and hundreds of MiB, and BentoML's supervisor, which imports this module, needs none of it.
    from serving.plane.version import load_version  # noqa: PLC0415

    return load_version(store, version)
