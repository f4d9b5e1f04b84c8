"""One serving process for the tests that need no settings of their own, with three versions of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from serving_process import await_true, roll_out, serving, stage

from ct.home import Home
from ct.rollout import ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from serving_process import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A process that started without any model, then got versions 1 (x0.1), 2 (x0.2); 3 (x0.3) is staged."""
    home = Home(tmp_path_factory.mktemp("serving") / "home").create()
    folder = tmp_path_factory.mktemp("models")
    with serving(home, folder, prediction_log_share=1) as process, process.client() as client:
        assert client.get("/readyz").status_code == 503
        assert client.get("/v1/models/trips").status_code == 404
        assert client.post("/invocations", json={"inputs": {}}).status_code == 404
        store = ModelStore(home, "trips")
        for version in (1, 2, 3):
            stage(store, folder, version, version / 10)
        assert roll_out(store, 1) == 1
        assert roll_out(store, 2) == 1
        yield process


@pytest.fixture
def store(served: Served) -> ModelStore:
    """The process's store; version 2 serves and 1 is warm as each test begins."""
    store = ModelStore(served.home, "trips")
    desired = store.desired()
    assert desired is not None
    if (desired.warm[:2], desired.canary, desired.shadow) != ((2, 1), None, None):
        if desired.version != 1:
            roll_out(store, 1)
        roll_out(store, 2)
    # Warm versions come after the swap.
    await_true(lambda: all({1, 2} <= set(worker.loaded) for worker in store.live_workers()), 20)
    return store


@pytest.fixture
def client(served: Served, store: ModelStore) -> Iterator[httpx.Client]:
    """Connections to it."""
    assert store.versions()
    with served.client() as client:
        yield client
