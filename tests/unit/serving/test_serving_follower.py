"""A worker's follower over a real model store, with versions of Python that load when the test lets them."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from contextlib import contextmanager
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ct.contracts import (
    Canary,
    Change,
    DesiredState,
    Feature,
    HistoryEntry,
)
from ct.errors import CTError
from ct.home import Home
from ct.rollout import ModelStore
from serving.plane import watching
from serving.plane.followed import AGAIN, CHAMPION, FollowedModel
from serving.plane.follower import Follower
from serving.plane.table import ModelTable
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ct.contracts import WorkerState

SIZE_MB = 10.0
LATE_S = 20


class DamagedError(CTError):
    """A version that does not load."""


class Bench:
    """A follower, what it follows, and what it has loaded."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.table = ModelTable()
        self.damaged: set[tuple[str, int]] = set()
        self.mended: set[tuple[str, int]] = set()
        """Damaged versions that load the next time."""
        self.held: dict[tuple[str, int], threading.Event] = {}
        """Versions that do not finish loading before their event is set."""
        self.features: dict[tuple[str, int], str] = {}
        self.began: list[tuple[str, int]] = []
        self.ticks = 0
        self.now_s = 0.0
        self.tick: Callable[[], None] = lambda: None

    def store(self, name: str = "trips") -> ModelStore:
        """A model's."""
        return ModelStore(self.home, name)

    def load(self, store: ModelStore, version: int) -> Any:
        """In the loader's thread."""
        key = (store.name, version)
        self.began.append(key)
        if key in self.held:
            assert self.held[key].wait(LATE_S)
        if key in self.damaged:
            if key in self.mended:
                self.damaged.discard(key)
            raise DamagedError(f"version {version} is damaged")
        return SimpleNamespace(version=version, memory_mb=SIZE_MB, layout=self.features.get(key, "the same"))

    def hold(self, version: int, name: str = "trips") -> threading.Event:
        """Let a version load for as long as the event is not set."""
        return self.held.setdefault((name, version), threading.Event())

    def count(self) -> None:
        """The tick."""
        self.ticks += 1
        self.tick()

    @contextmanager
    def following(self, memory_mb: float = 1000) -> Iterator[Follower]:
        """A worker that has started."""
        follower = Follower(self.home, self.table, memory_mb, self.count, load=self.load, clock=lambda: self.now_s)
        follower.start()
        try:
            yield follower
        finally:
            for event in self.held.values():
                event.set()
            follower.stop()

    def serving(self, name: str = "trips") -> int | None:
        """Who answers."""
        model = self.table.models.get(name)
        return model.serving.version if model else None

    def loaded(self, name: str = "trips") -> set[int]:
        """What is in memory."""
        model = self.table.models.get(name)
        return set(model.loaded) if model else set()

    def report(self, name: str = "trips") -> WorkerState:
        """What the worker says."""
        (worker,) = self.store(name).live_workers()
        return worker


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Nothing is desired yet."""
    return Bench(Home(tmp_path / "home").create())


def desire(bench: Bench, generation: int, version: int, name: str = "trips", **values: Any) -> None:
    """Let a version serve."""
    state = {"previous": None, "warm": (version,), **values}
    bench.store(name).desire(DesiredState(name=name, generation=generation, version=version, **state))


def await_true(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LATE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        threading.Event().wait(0.002)


def canary(version: int) -> Canary:
    """A tenth."""
    return Canary(version=version, share=0.1, key="header:ct-key")


def test_a_start_returns_when_every_champion_answers_and_warm_versions_come_after(bench: Bench) -> None:
    """Champions of all models are loaded first, then what is beside them; a warm version that takes long is not waited for."""
    desire(bench, 1, 3, "flights", warm=(3, 4, 2), canary=canary(4))
    desire(bench, 1, 3, "trips", warm=(3, 2, 1))
    slow = bench.hold(2, "flights")
    with bench.following():
        assert (bench.serving("flights"), bench.serving("trips")) == (3, 3)
        assert bench.began[:3] == [("flights", 3), ("trips", 3), ("flights", 4)]
        assert bench.loaded("flights") == {3, 4}
        await_true(lambda: ("flights", 2) in bench.began)
        slow.set()
        await_true(lambda: (bench.loaded("flights"), bench.loaded("trips")) == ({2, 3, 4}, {1, 2, 3}))
        await_true(lambda: bench.report("flights").loaded == (2, 3, 4))


def test_a_start_waits_for_loads_and_for_nothing_else(bench: Bench) -> None:
    """One load begins as the one before ends, not at the next look."""
    for number in range(8):
        desire(bench, 1, 1, f"model{number}")
    began = time.monotonic()
    with bench.following():
        assert len(bench.table.models) == 8
        assert time.monotonic() - began < 4


def test_a_warm_version_answers_while_another_loads(bench: Bench) -> None:
    """Neither another model's load nor one of the same model holds a flip up."""
    desire(bench, 1, 1, "flights")
    desire(bench, 1, 2, "trips", warm=(2, 1))
    with bench.following():
        await_true(lambda: bench.loaded("trips") == {1, 2})
        slow = bench.hold(2, "flights")
        desire(bench, 2, 2, "flights")
        await_true(lambda: ("flights", 2) in bench.began)
        desire(bench, 2, 1, "trips", previous=2, warm=(1, 2))
        await_true(lambda: bench.report("trips").generation == 2)
        assert (bench.serving("trips"), bench.serving("flights")) == (1, 1)
        bench.hold(3, "trips")
        slow.set()
        await_true(lambda: bench.serving("flights") == 2)
        desire(bench, 3, 3, "trips", previous=1, warm=(3, 1, 2))
        await_true(lambda: ("trips", 3) in bench.began)
        desire(bench, 4, 2, "trips", previous=3, warm=(2, 1))
        await_true(lambda: bench.report("trips").generation == 4)
        assert bench.serving("trips") == 2


def test_a_worker_that_starts_beside_a_damaged_canary_serves_the_champion(bench: Bench) -> None:
    """Alone, and not what served before. The report has the error; the canary is taken once it is mended."""
    desire(bench, 5, 2, previous=1, warm=(2, 3, 1), canary=canary(3))
    bench.damaged.add(("trips", 3))
    with bench.following():
        model = bench.table.models["trips"]
        assert (model.serving.version, model.canary) == (2, None)
        report = bench.report()
        assert (report.generation, report.serving, report.error) == (5, 2, "version 3 is damaged")
        bench.damaged.clear()
        bench.now_s = 1.5
        await_true(lambda: bench.table.models["trips"].canary == canary(3))
        await_true(lambda: bench.report().error is None)
        assert 3 in bench.loaded()


def test_a_worker_that_starts_with_a_damaged_champion_serves_what_served_before(bench: Bench) -> None:
    """Until the champion is mended."""
    desire(bench, 5, 2, previous=1, warm=(2, 1))
    bench.damaged.add(("trips", 2))
    with bench.following():
        assert bench.serving() == 1
        assert bench.report().error == "version 2 is damaged"
        bench.damaged.clear()
        bench.now_s = 1.5
        await_true(lambda: bench.serving() == 2)
        await_true(lambda: bench.report().error is None)


def test_what_is_refused_is_tried_again_less_and_less_often(bench: Bench) -> None:
    """After 1, 2, 4, ... and then each 60 s; and at once when something new is desired."""
    desire(bench, 1, 1)
    model, now_s = FollowedModel(bench.store()), 0.0
    model.look()
    assert list(model.missing(now_s)) == [(CHAMPION, 0, 1)]
    for wait_s in (1, 2, 4, 8, 16, 32, 60, 60):
        model.refuse(1, DamagedError("damaged"), now_s)
        model.look()
        assert list(model.missing(now_s + wait_s - 0.1)) == []
        now_s += wait_s
        assert list(model.missing(now_s)) == [(AGAIN, 0, 1)]
        assert (model.pending, model.error) == (False, "damaged")
    desire(bench, 2, 1)
    model.look()
    assert list(model.missing(now_s)) == [(CHAMPION, 0, 1)]


def test_a_load_that_failed_for_an_earlier_desired_state_says_nothing_of_the_next(bench: Bench) -> None:
    """The files were mended and the version is desired again, while the old load still runs: it is tried anew."""
    desire(bench, 1, 1)
    with bench.following():
        slow = bench.hold(2)
        bench.damaged.add(("trips", 2))
        bench.mended.add(("trips", 2))
        desire(bench, 2, 2, previous=1)
        await_true(lambda: ("trips", 2) in bench.began)
        desire(bench, 3, 2, previous=1)
        seen = bench.ticks
        await_true(lambda: bench.ticks >= seen + 2)
        slow.set()
        await_true(lambda: bench.report().generation == 3)
        assert (bench.serving(), bench.report().error) == (2, None)


def test_a_running_worker_keeps_what_answers_when_something_desired_is_refused(bench: Bench) -> None:
    """With its canary, whether a champion or another canary is refused; the report says why."""
    desire(bench, 1, 1, canary=canary(2), warm=(1, 2))
    bench.damaged.add(("trips", 3))
    with bench.following():
        desire(bench, 2, 3, previous=1, warm=(3, 1))
        await_true(lambda: bench.report().error == "version 3 is damaged")
        model = bench.table.models["trips"]
        assert (bench.report().generation, model.serving.version, model.canary) == (2, 1, canary(2))
        desire(bench, 3, 1, canary=canary(3), warm=(1, 3))
        await_true(lambda: (bench.report().generation, bench.report().error) == (3, "version 3 is damaged"))
        model = bench.table.models["trips"]
        assert (model.serving.version, model.canary) == (1, canary(2))


def test_a_version_with_other_features_goes_beside_nothing(bench: Bench) -> None:
    """The champion answers alone, and the report says why."""
    bench.features["trips", 3] = "others"
    desire(bench, 1, 2, shadow=3, warm=(2, 3))
    with bench.following():
        assert (bench.serving(), bench.table.models["trips"].shadow) == (2, None)
        assert "version 3 takes other features than version 2" in (bench.report().error or "")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"{}"], ids=["torn", "no text", "no state"])
def test_one_unreadable_model_stops_neither_the_others_nor_the_tick(bench: Bench, content: bytes) -> None:
    """A worker starts beside it, follows the others, and reports the error; once the file is mended that model serves too."""
    desire(bench, 1, 1, "flights")
    desire(bench, 1, 1, "trips")
    (bench.store("flights").root / "desired.json").write_bytes(content)
    with bench.following():
        assert bench.serving("trips") == 1
        assert "desired.json cannot be read" in (bench.report("flights").error or "")
        desire(bench, 2, 2, "trips")
        await_true(lambda: bench.serving("trips") == 2)
        seen = bench.ticks
        await_true(lambda: bench.ticks > seen)
        desire(bench, 2, 2, "flights")
        await_true(lambda: bench.serving("flights") == 2)
        (bench.store("flights").root / "desired.json").write_bytes(content)
        await_true(lambda: "cannot be read" in (bench.report("flights").error or ""))
        assert bench.serving("flights") == 2


def test_a_report_that_cannot_be_written_is_written_later(bench: Bench) -> None:
    """The version answers, the other models are followed, and the report comes when there is room for it."""
    desire(bench, 1, 1, "flights")
    desire(bench, 1, 1, "trips")
    blocking = bench.store("flights").root / "workers"
    blocking.write_text("a file where a folder should be")
    with bench.following():
        assert (bench.serving("flights"), bench.serving("trips")) == (1, 1)
        assert bench.report("flights").generation == 0
        blocking.unlink()
        await_true(lambda: bench.report("flights").generation == 1)


def test_a_desired_state_with_a_generation_that_has_been_is_followed_too(bench: Bench) -> None:
    """As after a first rollout that was taken back before any worker had dealt with it."""
    desire(bench, 1, 1)
    with bench.following():
        desire(bench, 1, 2)
        await_true(lambda: bench.report().serving == 2)


def test_a_model_is_its_folder(bench: Bench) -> None:
    """A desired state that was copied from another model, with that one's name, is not taken for that one's."""
    desire(bench, 1, 1, "trips")
    state = DesiredState(name="trips", generation=2, version=2, previous=None, warm=(2,))
    bench.store("flights").desire(state)
    with bench.following():
        assert (bench.serving("trips"), bench.serving("flights")) == (1, 2)
        assert bench.report("flights").generation == 2
        assert len(bench.began) == 2


def test_a_tick_that_fails_stops_nothing(bench: Bench) -> None:
    """The next one comes, and models are followed."""
    desire(bench, 1, 1)

    def fail() -> None:
        raise OSError("no token file")

    bench.tick = fail
    with bench.following():
        desire(bench, 2, 2)
        await_true(lambda: bench.serving() == 2)
        seen = bench.ticks
        await_true(lambda: bench.ticks > seen)


def test_without_a_watch_it_looks_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system has no inotify watch to give: the log says so, and changes are followed all the same."""

    def no_watch(*_paths: Any, **_options: Any) -> Any:
        raise OSError("inotify watch limit reached")

    monkeypatch.setattr(watching, "watch", no_watch)
    desire(bench, 1, 1)
    with caplog.at_level(logging.ERROR), bench.following():
        desire(bench, 2, 2)
        await_true(lambda: bench.serving() == 2)
        desire(bench, 3, 3)
        await_true(lambda: bench.report().generation == 3)
    assert "cannot be watched" in caplog.text


def test_a_first_rollout_that_was_taken_back_is_served_no_more(bench: Bench) -> None:
    """The report keeps its generation, so that the next first rollout is another one."""
    with bench.following():
        desire(bench, 1, 1)
        await_true(lambda: bench.serving() == 1)
        bench.store().desire_nothing()
        await_true(lambda: bench.serving() is None)
        await_true(lambda: bench.report().serving is None)
        assert (bench.report().generation, bench.report().loaded) == (1, ())
        assert bench.store().reached() == 1
        desire(bench, 2, 2)
        await_true(lambda: bench.serving() == 2)


def test_a_first_rollout_that_was_taken_back_while_it_loaded_is_not_served(bench: Bench) -> None:
    """Not even when the next one has the same generation."""
    slow = bench.hold(1)
    with bench.following():
        desire(bench, 1, 1)
        await_true(lambda: bool(bench.began))
        bench.store().desire_nothing()
        await_true(lambda: bench.store().reached() == 1)
        desire(bench, 1, 2)
        slow.set()
        await_true(lambda: bench.serving() == 2)
        await_true(lambda: bench.report().serving == 2)
        assert bench.loaded() == {2}


def test_a_desired_state_that_got_lost_takes_nothing_away(bench: Bench) -> None:
    """Something served by the history, so this was no first rollout taken back: it serves on, and the report says so."""
    desire(bench, 1, 1)
    bench.store().remember(
        HistoryEntry(
            generation=1,
            change=Change.ROLLOUT,
            version=1,
            previous=None,
            at=datetime(2026, 1, 2, tzinfo=timezone.utc),
            actor="a",
            reason="r",
        )
    )
    with bench.following():
        (bench.store().root / "desired.json").unlink()
        await_true(lambda: "desired.json is missing" in (bench.report().error or ""))
        assert bench.serving() == 1


def test_other_models_warm_versions_make_room(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Four fit. A canary of one model takes the room of another's oldest warm version, which is let go and not loaded again."""
    desire(bench, 1, 2, "flights", warm=(2, 1))
    desire(bench, 1, 3, "trips", warm=(3, 2))
    with bench.following(memory_mb=4 * SIZE_MB + 1):
        await_true(lambda: (bench.loaded("flights"), bench.loaded("trips")) == ({1, 2}, {2, 3}))
        desire(bench, 2, 2, "flights", warm=(2, 3, 1), canary=canary(3))
        await_true(lambda: bench.loaded("flights") == {1, 2, 3})
        await_true(lambda: bench.report("trips").loaded == (3,))
        for generation in (3, 4):
            desire(
                bench,
                generation,
                2,
                "flights",
                warm=(2, 3, 1),
                canary=Canary(version=3, share=generation / 10, key="header:k"),
            )
            await_true(lambda generation=generation: bench.report("flights").generation == generation)  # type: ignore[misc]
    assert bench.began.count(("trips", 2)) == 1
    assert "version 2 of trips does not stay warm: no room in serving_memory_mb" in caplog.text


@pytest.fixture
def real(tmp_path: Path) -> ModelStore:
    """A store with a version that TensorFlow loads."""
    import tensorflow as tf  # noqa: PLC0415  takes seconds, and only these tests need it

    module = tf.Module()
    spec = {"distance": tf.TensorSpec([None], tf.float32, name="distance")}
    half = tf.function(lambda features: {"probability": features["distance"] / 2}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": half})
    store = ModelStore(Home(tmp_path / "home").create(), "trips")
    features = (Feature(name="distance", dtype="float32"),)
    manifest = manifest_of("trips", 1, tmp_path / "model", features=features)
    store.stage(tmp_path / "model", manifest, {"instances": [{"distance": 1.0}], "predictions": [0.5]})
    return store


def test_files_that_were_edited_since_they_were_registered_are_refused(real: ModelStore, tmp_path: Path) -> None:
    """The store links to the artifact's files, so an edit there is one here; the message names the hash and the folder."""
    from serving.plane.version import VersionRefusedError, load_version  # noqa: PLC0415

    with (tmp_path / "model" / "fingerprint.pb").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        VersionRefusedError, match=r"version 1 does not load: .*saved_model are not .*saved_model_sha256"
    ):
        load_version(real, 1)


def test_a_version_unloads_with_its_last_reference(real: ModelStore) -> None:
    """Without a look of the garbage collector."""
    from serving.plane.version import load_version  # noqa: PLC0415

    version = load_version(real, 1)
    held = [weakref.ref(version), weakref.ref(version._model), weakref.ref(version._predict)]
    gc.collect()
    gc.disable()
    try:
        del version
        assert [reference() for reference in held] == [None, None, None]
    finally:
        gc.enable()
