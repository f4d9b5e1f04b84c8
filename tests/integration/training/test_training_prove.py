"""The node Prove: a registered version of the tiny pipeline, proven in the serving plane's own service."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from tfx.types import standard_artifacts
from tiny_run import NOW, Run, in_fork

from ct.contracts import Check, CheckOutcome, DesiredState, Proof, VersionManifest
from ct.errors import CTError
from ct.rollout import ModelStore, tree_sha256
from ct.training import artifacts, prove, register
from ct.training.evaluation import eval_split
from ct.training.facts import collected
from ct.training.rows import predict_examples, sample_rows, signature_features
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHAMPION, CANDIDATE = 101, 102


@pytest.fixture(scope="module")
def proven(first_run: Run) -> Iterator[Run]:
    """The first run, whose candidate serves, and whose refit is registered."""
    for node_id, version in (("Trainer", CHAMPION), ("Refit", CANDIDATE)):
        in_fork(stage, first_run, first_run.output(node_id, "model") / "Format-Serving", version)
    store = ModelStore(first_run.home, "tiny")
    before = store.desired()
    store.desire(DesiredState(name="tiny", generation=1, version=CHAMPION, previous=None, warm=(CHAMPION,)))
    yield first_run
    if before is None:
        store.desire_nothing()
    else:
        store.desire(before)


def stage(run: Run, saved_model: Path, version: int) -> None:
    """Put a version into the model store as Register does, with examples predicted by this plane's TensorFlow."""
    features = signature_features(saved_model)
    rows = sample_rows(eval_split(examples_of(run)), features, "late", run.request.seed).head(register.EXAMPLE_ROWS)
    manifest = VersionManifest(
        name="tiny",
        version=version,
        created_at=NOW,
        run_id=run.request.run_id,
        mlflow_run_id=None,
        features=features,
        label="late",
        spans=run.request.spans,
        refit=False,
        verdict=run.verdict(),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
    )
    ModelStore(run.home, "tiny").stage(saved_model, manifest, predict_examples(saved_model, rows))


def examples_of(run: Run) -> Any:
    """ExampleGen's artifact."""
    examples = standard_artifacts.Examples()
    examples.uri = str(run.output("ExampleGen", "examples"))
    examples.split_names = json.dumps(["train", "eval"])
    return examples


def node(run: Run, folder: Path) -> dict[str, Any]:
    """Run the component's function; what it reported, or how it failed."""
    store = ModelStore(run.home, "tiny")
    registration, proof = artifacts.Registration(), artifacts.Proof()
    registration.uri, proof.uri = str(store.version_path(CANDIDATE)), str(folder)
    with collected() as facts:
        try:
            prove.Prove.EXECUTOR_SPEC.executor_class._FUNCTION(
                request_path=str(run.home.request_path(run.request.run_id)),
                registration=registration,
                examples=examples_of(run),
                proof=proof,
            )
        except CTError as error:
            return {"error": type(error).__name__, "message": error.message, **error.facts}
    return {"message": facts.message, **facts.values}


def test_candidate_is_proven_on_the_rows_it_was_judged_on(proven: Run, tmp_path: Path) -> None:
    """All of them are replayed, the champion is measured beside it, and the record is where people look."""
    told = in_fork(node, proven, tmp_path)
    assert told["message"].startswith(f"version {CANDIDATE} is proven: "), told
    assert (told["version"], told["champion"]) == (CANDIDATE, CHAMPION)
    assert told["p99_ms"] > 0
    assert told["champion_memory_mb"] > 0
    folders = (tmp_path, proven.folder, ModelStore(proven.home, "tiny").version_path(CANDIDATE))
    proof, *others = [Proof.model_validate_json((folder / "proof.json").read_text()) for folder in folders]
    assert others == [proof, proof]
    assert proof.passed
    replayed = next(check for check in proof.checks if check.metric == "prediction_difference")
    assert replayed.rows == 60 + register.EXAMPLE_ROWS
    assert (proven.folder / "proof-service.log").stat().st_size > 0
    assert list(proven.home.scratch.iterdir()) == []


def test_failed_proof_fails_the_node(proven: Run, tmp_path: Path) -> None:
    """The message says which check failed, that the champion serves on, and where to look; a retry cannot help."""
    store = ModelStore(proven.home, "tiny")
    examples = store.version_path(CANDIDATE) / "examples.json"
    told = json.loads(examples.read_text())
    told["predictions"][3] += 0.1
    examples.write_text(json.dumps(told))
    try:
        failed = in_fork(node, proven, tmp_path)
    finally:
        told["predictions"][3] -= 0.1
        examples.write_text(json.dumps(told))
    assert failed["error"] == "ProofFailedError"
    assert f'Version {CANDIDATE} of "tiny" was not rolled out, version {CHAMPION} serves on' in failed["message"]
    assert "for example 3, offline it was" in failed["message"]
    assert f"`ct why tiny {CANDIDATE}`" in failed["message"]
    assert failed["failed"] == ["the service takes it"]
    assert not Proof.model_validate_json((proven.folder / "proof.json").read_text()).passed


@pytest.mark.parametrize("outcome", list(CheckOutcome))
def test_proof_is_in_mlflow(tmp_path: Path, outcome: CheckOutcome) -> None:
    """Its numbers, its outcome on run and version, the record, and the verdict's page with it."""
    check = Check(name="quick enough", metric="p99_ms", value=3.0, threshold=2.0, outcome=outcome)
    proof = Proof(
        name="m",
        version=2,
        champion_version=1,
        reason="why",
        checks=(check,),
        measured={"p99_ms": 3.0},
        at=NOW,
        seconds=1,
    )
    (tmp_path / "file").write_text("")
    registry = Mock()
    files: dict[str, str] = {}
    registry.log_files.side_effect = lambda _, folder: files.update({p.name: p.read_text() for p in folder.iterdir()})
    prove._log(registry, "run", manifest_of("m", 2, tmp_path), proof)
    tags = {"ct.proof": "passed" if outcome is CheckOutcome.PASS else "failed", "ct.proof_reason": "why"}
    registry.log.assert_called_once_with("run", params={}, metrics={"proof.p99_ms": 3.0}, tags=tags)
    registry.tag_version.assert_called_once_with("m", 2, tags)
    assert Proof.model_validate_json(files["proof.json"]) == proof
    assert "quick enough" in files["verdict.html"]


def test_killed_node_leaves_no_service(proven: Run, tmp_path: Path) -> None:
    """SIGKILL while the service runs: it is gone, its scratch home too, and nothing was proven."""
    proof = ModelStore(proven.home, "tiny").version_path(CANDIDATE) / "proof.json"
    proof.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        try:
            os.setsid()  # as the warm worker's jobs do
            node(proven, tmp_path)
        finally:
            os._exit(0)
    await_true(lambda: any(proven.home.scratch.glob("proof-*/models/.workers/*.json")))
    marked = processes(proven)
    assert marked
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    await_true(lambda: processes(proven) == [])
    await_true(lambda: list(proven.home.scratch.iterdir()) == [])
    assert not proof.exists()


def processes(run: Run) -> list[int]:
    """Processes whose CT_HOME is this one or its scratch."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = path.read_bytes()
        except OSError:
            continue  # it ended, or is another user's
        if f"CT_HOME={run.home.root}".encode() in content:
            found.append(int(path.parent.name))
    return found


def await_true(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
