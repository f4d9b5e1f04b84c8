"""`ct reproduce` on the tiny pipeline: the real nodes again, in a home of their own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tiny_run import in_fork

from ct.contracts import VersionManifest
from ct.errors import ReproduceError
from ct.made_with import made_with_now
from ct.reproduce import Comparison, recipe_of, reproduce
from ct.rollout import ModelStore, tree_sha256
from ct.training.executions import executions_by_run, mark_deleted
from ct.training.preload import tf
from ct.training.reproduce import compare, compare_weights
from ct.training.run import load_run
from ct.worker import server
from ct.worker.client import ENTRY, SOCKET
from ct.worker.execution import NoWorkerError, ping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tiny_run import Run

    from ct.contracts import NodeResult

VERSION = 7


@pytest.fixture(scope="module")
def registered(first_run: Run) -> ModelStore:
    """The first run's refit as a version whose record is whole."""
    saved_model = first_run.output("Refit", "model") / "Format-Serving"
    rows = [{"kind": "a", "size": 1.0}, {"kind": "new", "size": -1.0}]
    manifest = VersionManifest(
        name="tiny",
        version=VERSION,
        created_at=first_run.request.requested_at,
        run_id=first_run.request.run_id,
        mlflow_run_id=None,
        features=(),
        label="late",
        spans=first_run.request.spans,
        refit=True,
        verdict=first_run.verdict(),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
        spec_hash=first_run.spec.spec_hash,
        recipe_hash=first_run.request.recipe_hash,
        seed=first_run.request.seed,
        made_with=load_run(str(first_run.folder / "request.json")).made_with(refit=True),
    )
    store = ModelStore(first_run.home, "tiny")
    store.stage(saved_model, manifest, {"instances": rows, "predictions": in_fork(_predictions, saved_model, rows)})
    return store


@pytest.fixture(scope="module", autouse=True)
def warm_worker(first_run: Run) -> Iterator[None]:
    """The home's warm worker, forked from this process, which has TFX imported already."""
    socket = first_run.home.socket(SOCKET)
    options = ["--socket", str(socket), "--preload", "ct.training.preload", "--entry", ENTRY, "--slots", "1"]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = server.main(options)
        finally:
            os._exit(code)
    until = time.monotonic() + 60
    while not _answers(socket):
        assert time.monotonic() < until, "the warm worker does not answer"
        time.sleep(0.05)  # there is nothing to block on before it listens
    yield
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def test_the_nodes_left_what_they_ran_with(registered: ModelStore) -> None:
    """One ct and one set of pins, those of this process; so nothing differs for the tests below."""
    assert registered.manifest(VERSION).made_with == (made_with_now(),)


def test_a_version_is_rebuilt_bit_by_bit(first_run: Run, registered: ModelStore) -> None:
    """Training twice from one record gives the same weights, and nothing of it stays on disk."""
    results: list[NodeResult] = []
    recipe = recipe_of(first_run.home, registered, VERSION, anyway=False)
    found = reproduce(first_run.home, registered, recipe, on_node=results.append, on_line=print)
    assert [result.node_id for result in results] == ["ExampleGen", "Schema", "Transform", "Refit"]
    assert (found.examples, found.rows) == (2, 60)
    assert found.weights > 0
    assert found.largest == 0.0
    assert found.weights_difference == 0.0
    assert list(first_run.home.scratch.iterdir()) == []


def test_another_seed_is_another_model(first_run: Run, registered: ModelStore) -> None:
    """A record that is not the version's own is found out, by how much."""
    manifest = registered.manifest(VERSION)
    recipe = recipe_of(first_run.home, registered, VERSION, anyway=False)
    other = type(recipe)(
        manifest.model_copy(update={"seed": 8}), recipe.spec, recipe.spec_dir, recipe.spans, recipe.differences
    )
    found = reproduce(first_run.home, registered, other, on_node=lambda _: None, on_line=print)
    assert found.largest > 1e-5
    assert found.weights_difference > 0


def test_a_node_that_fails_says_which(first_run: Run, registered: ModelStore, tmp_path: Path) -> None:
    """The message carries what the node said, and the scratch home is gone."""
    recipe = recipe_of(first_run.home, registered, VERSION, anyway=False)
    broken = shutil.copytree(recipe.spec_dir, tmp_path / "spec")
    (broken / "code" / "tiny" / "features.py").write_text("raise RuntimeError('no features')", encoding="utf-8")
    other = type(recipe)(recipe.manifest, recipe.spec, broken, recipe.spans, ())
    with pytest.raises(ReproduceError, match=r'Rebuilding version 7 of "tiny" stopped: (.|\n)*no features'):
        reproduce(first_run.home, registered, other, on_node=lambda _: None, on_line=print)
    assert list(first_run.home.scratch.iterdir()) == []


def test_two_models_differ_by_the_largest_prediction(first_run: Run, registered: ModelStore) -> None:
    """The twin learnt from fewer rows: another model, in predictions and weights."""
    twin = first_run.output("Trainer", "model") / "Format-Serving"
    folder = registered.version_path(VERSION)
    rows = first_run.output("ExampleGen", "examples") / "Split-eval"
    found = Comparison(**in_fork(compare, folder / "saved_model", twin, folder / "examples.json", rows))
    assert found.largest > 1e-3
    assert found.weights_difference > 1e-3
    assert found.saved_model_sha256 == tree_sha256(twin)
    assert in_fork(compare_weights, twin, twin)[1] == 0.0


def test_metadata_names_the_folders_of_a_run(first_run: Run) -> None:
    """The ids of a run's executions are the names of its artifact folders; `ct gc` goes by them."""
    database = first_run.home.artifacts("tiny") / "metadata.db"
    ids = executions_by_run(database)[first_run.request.run_id]
    assert int(first_run.output("Refit", "model").name) in ids
    assert len(ids) == 10


def test_removed_artifacts_are_marked(first_run: Run, tmp_path: Path) -> None:
    """What `ct gc` removed is deleted in ML Metadata, too, once."""
    database = tmp_path / "metadata.db"
    shutil.copy(first_run.home.artifacts("tiny") / "metadata.db", database)
    models = first_run.home.artifacts("tiny") / "Trainer" / "model"
    executions = executions_by_run(database)[first_run.request.run_id]
    (folder,) = [models / str(execution) for execution in executions if (models / str(execution)).exists()]
    folder.rename(tmp_path / "gone")
    try:
        assert mark_deleted(database, [first_run.request.run_id, "unknown"]) == 1
        assert mark_deleted(database, [first_run.request.run_id]) == 0
    finally:
        (tmp_path / "gone").rename(folder)


def _answers(socket: Path) -> bool:
    try:
        ping(socket, 5)
    except NoWorkerError:
        return False
    return True


def _predictions(saved_model: Path, rows: list[dict[str, Any]]) -> list[float]:
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    columns = {name: tf.constant([row[name] for row in rows]) for name in ("kind", "size")}
    return [float(value) for value in signature(**columns)["probability"].numpy()]
