"""The proof of a version: the real service on the version's own files, what it finds, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import tensorflow as tf
from serving_process import FEATURES, ROW, await_true, stage

from ct.contracts import CheckOutcome, DesiredState, Feature, Proof
from ct.home import Home
from ct.planes import Plane, python
from ct.rollout import ModelStore
from tests.manifests import manifest_of

if TYPE_CHECKING:
    from pathlib import Path

GOOD, SLOW_AND_BIG, OTHERWISE = 2, 3, 4
SLOW_LOOPS = 5000
"""About 15 ms a request."""
NODE = """
import os, subprocess, sys
subprocess.run([sys.executable, "-m", "serving.proof", "trips", "2", "--parent", str(os.getpid())])
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Version 1 serves; 2 is as good, 3 is slow and big, 4 predicts something else than it did offline."""
    home = Home(tmp_path_factory.mktemp("proof") / "home").create()
    models = tmp_path_factory.mktemp("models")
    store = ModelStore(home, "trips")
    stage(store, models, 1, 0.1)
    stage(store, models, GOOD, 0.2)
    stage(store, models, SLOW_AND_BIG, 0.2, loops=SLOW_LOOPS, ballast_mb=64)
    stage(store, models, OTHERWISE, 0.3, claimed=0.4)
    store.desire(DesiredState(name="trips", generation=1, version=1, previous=None, warm=(1,)))
    return store


def run(store: ModelStore, version: int, *options: str, rows: dict[str, Any] | None = None, **variables: str) -> Any:
    """What `python -m serving.proof` printed, of a run that left nothing behind."""
    done = subprocess.run(
        [sys.executable, "-m", "serving.proof", "trips", str(version), *options, *(["--rows"] if rows else [])],
        env={**os.environ, "CT_HOME": str(home_of(store).root), **variables},
        input=json.dumps(rows),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert left_behind(store) == []
    assert list(home_of(store).scratch.glob("*")) == []
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == ("error" in told)
    return told


def prove(store: ModelStore, version: int, *options: str, rows: dict[str, Any] | None = None) -> Proof:
    """The proof of a version, which is in its folder too."""
    proof = Proof.model_validate(run(store, version, *options, rows=rows))
    kept = Proof.model_validate_json((store.version_path(version) / "proof.json").read_text())
    assert kept == proof
    return proof


def home_of(store: ModelStore) -> Home:
    """The home that a store is in."""
    return Home(store.root.parent.parent)


def left_behind(store: ModelStore) -> list[str]:
    """Processes of a proof in this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home_of(store).root) in process.environ().get("CT_HOME", ""):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def outcomes(proof: Proof) -> dict[str, CheckOutcome]:
    """Metric -> outcome."""
    return {check.metric: check.outcome for check in proof.checks}


def test_a_good_version_is_proven(store: ModelStore) -> None:
    """It is replayed, also with rows that came beside its examples, and measured beside the champion; all is on record."""
    more = {"instances": [{**ROW, "distance": row / 999} for row in range(999)]}
    more["predictions"] = [tf.constant(row["distance"], tf.float32).numpy().item() * 0.2 for row in more["instances"]]
    proof = prove(store, GOOD, rows=more)
    assert proof.passed, proof.reason
    assert (proof.version, proof.champion_version) == (GOOD, 1)
    assert set(outcomes(proof).values()) == {CheckOutcome.PASS}
    assert list(outcomes(proof)) == [
        *("saved_model_sha256", "prediction_difference", "features_that_differ", "p99_ms", "memory_mb"),
    ]
    replayed, latency = proof.checks[1], proof.checks[3]
    assert replayed.rows == 1000
    assert replayed.value is not None
    assert replayed.value <= replayed.threshold == 1e-5
    assert latency.value == proof.measured["p99_ms"]
    assert latency.baseline == proof.measured["champion_p99_ms"]
    assert latency.low is not None
    assert latency.high is not None
    assert latency.difference is not None
    assert latency.low <= latency.difference <= latency.high
    assert "differ from those computed offline by at most" in proof.reason
    assert "serving" in (home_of(store).logs / "proof.log").read_text().lower()


def test_files_that_changed_after_registration_are_not_run(store: ModelStore, tmp_path: Path) -> None:
    """One flipped byte is enough; the service is not even started."""
    stage(store, tmp_path, 5, 0.2)
    variables = store.version_path(5) / "saved_model" / "variables" / "variables.data-00000-of-00001"
    content = bytearray(variables.read_bytes())
    content[-1] ^= 1
    variables.write_bytes(content)
    proof = prove(store, 5)
    assert not proof.passed
    assert "are not those that were registered" in proof.reason
    assert outcomes(proof) == {"saved_model_sha256": CheckOutcome.FAIL}
    assert proof.measured == {}


def test_a_version_that_predicts_something_else_than_offline_is_caught(store: ModelStore) -> None:
    """The service itself refuses it, and both numbers are told."""
    proof = prove(store, OTHERWISE)
    assert not proof.passed
    assert outcomes(proof)["loads"] is CheckOutcome.FAIL
    assert "predicts 0.600000 for example 0, offline it was 0.800000" in proof.reason


def test_rows_beyond_the_examples_are_compared_too(store: ModelStore) -> None:
    """A version that agrees on its examples and not on other rows of the newest span does not pass."""
    more = {"instances": [ROW, {**ROW, "distance": 3.0}], "predictions": [0.4, 0.65]}
    proof = prove(store, GOOD, rows=more)
    assert not proof.passed
    assert proof.reason == "the served prediction of row 2 is 0.600000, offline it was 0.650000; 1e-05 is allowed"


def test_a_slow_and_big_version_is_caught_beside_a_quick_champion(store: ModelStore) -> None:
    """Both limits are told with both numbers; options move them."""
    proof = prove(store, SLOW_AND_BIG, "--memory-ratio", "2.5")
    assert not proof.passed
    failed = {check.metric: check for check in proof.checks if check.outcome is CheckOutcome.FAIL}
    assert set(failed) == {"p99_ms", "memory_mb"}
    assert proof.measured["p99_ms"] > 2 * proof.measured["champion_p99_ms"]
    assert 50 < proof.measured["memory_mb"] < 100
    assert "above the limit of 40 MiB" in proof.reason
    assert "that of version 1" in proof.reason


def test_a_version_that_refuses_what_clients_send_is_caught(store: ModelStore, tmp_path: Path) -> None:
    """What the champion's clients send is sent to the candidate; what it refuses is told, feature by feature."""
    module = tf.Module()
    shape = {"hour": tf.TensorSpec([None], tf.float32, name="hour")}
    function = tf.function(lambda features: {"probability": features["hour"] * 0.1}, input_signature=[shape])
    saved_model = tmp_path / "other"
    tf.saved_model.save(module, str(saved_model), signatures={"serving_default": function})
    features = (Feature(name="hour", dtype="float32"),)
    examples = {"instances": [{"hour": 2.0}], "predictions": [0.2]}
    store.stage(saved_model, manifest_of("trips", 6, saved_model, features=features), examples)
    proof = prove(store, 6)
    assert not proof.passed
    assert outcomes(proof)["features_that_differ"] is CheckOutcome.FAIL
    assert "it refuses what clients of version 1 send: the answer was 400" in proof.reason
    assert all(f"{feature.name} ({feature.dtype}) is gone" in proof.reason for feature in FEATURES)
    assert "hour (float32) is new" in proof.reason


def test_the_first_version_is_proven_without_a_champion(tmp_path: Path) -> None:
    """Agreement decides; its own numbers are on record."""
    store = ModelStore(Home(tmp_path / "home").create(), "trips")
    stage(store, tmp_path, 1, 0.1)
    proof = prove(store, 1)
    assert proof.passed, proof.reason
    assert list(outcomes(proof)) == ["saved_model_sha256", "prediction_difference"]
    assert proof.measured["p99_ms"] > 0
    assert "memory_mb" in proof.measured


def test_a_champion_that_does_not_load_stops_no_candidate(tmp_path: Path) -> None:
    """Its successor may be the cure; that nothing was compared is on record."""
    store = ModelStore(Home(tmp_path / "home").create(), "trips")
    stage(store, tmp_path, 1, 0.1, claimed=0.2)
    stage(store, tmp_path, 2, 0.2)
    store.desire(DesiredState(name="trips", generation=1, version=1, previous=None, warm=(1,)))
    proof = prove(store, 2)
    assert proof.passed, proof.reason
    assert outcomes(proof)["champion"] is CheckOutcome.INCONCLUSIVE
    assert "no numbers of version 1 to compare with: version 1 predicts" in proof.reason


def test_a_service_that_does_not_start_says_nothing_of_the_version(store: ModelStore, tmp_path: Path) -> None:
    """That is an error of its own, worth another try, with the end of the service's log; no proof is written."""
    interpreter = tmp_path / "bin" / "python"
    interpreter.parent.mkdir()
    interpreter.write_text("#!/bin/sh\necho no such plane >&2\nexit 3\n")
    interpreter.chmod(0o755)
    (store.version_path(GOOD) / "proof.json").unlink(missing_ok=True)
    error = run(store, GOOD, CT_SERVING_ENV=str(tmp_path))["error"]
    assert error["type"] == "ServiceNotStartedError"
    assert "it ended with code 3. What serves is not affected" in error["message"]
    assert error["message"].endswith("no such plane")
    assert not (store.version_path(GOOD) / "proof.json").exists()


@pytest.mark.parametrize("victim", ["node", "proof"])
def test_nothing_is_left_after_a_kill(store: ModelStore, victim: str) -> None:
    """SIGKILL of the node, or of the proof itself, while the service runs: all of it ends, and nothing is proven."""
    proof = store.version_path(GOOD) / "proof.json"
    proof.unlink(missing_ok=True)
    node = subprocess.Popen(
        [sys.executable, "-c", NODE], env={**os.environ, "CT_HOME": str(home_of(store).root)}, stdout=subprocess.DEVNULL
    )
    try:
        await_true(lambda: any(home_of(store).scratch.glob("proof-*/models/.workers/*.json")), 90)
        assert len(left_behind(store)) > 2
        killed = node if victim == "node" else psutil.Process(node.pid).children()[0]
        killed.send_signal(signal.SIGKILL)
        await_true(lambda: left_behind(store) == [], 30)
    finally:
        node.kill()
        node.wait()
    assert not proof.exists()
    scratch = list(home_of(store).scratch.glob("*"))
    assert (scratch == []) == (victim == "node")  # who is killed cannot tidy; `ct gc` does
    for folder in scratch:
        shutil.rmtree(folder)


def test_ct_rollout_proves_what_no_run_has_proven(tmp_path: Path) -> None:
    """What passes serves; what predicts something else than it did offline does not, and its proof is kept."""
    store = ModelStore(Home(tmp_path / "home").create(), "trips")
    for version, weight, claimed in ((1, 0.1, None), (GOOD, 0.2, None), (OTHERWISE, 0.3, 0.4)):
        stage(store, tmp_path / "models", version, weight, claimed=claimed)
    store.desire(DesiredState(name="trips", generation=1, version=1, previous=None, warm=(1,)))

    def roll_out(version: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python(Plane.CONTROL).with_name("ct")), "rollout", "trips", "--version", str(version)],
            env={**os.environ, "CT_HOME": str(home_of(store).root), "CT_MLFLOW_URL": "http://127.0.0.1:1"},
            capture_output=True,
            text=True,
            check=False,
        )

    wrong = roll_out(OTHERWISE)
    assert wrong.returncode != 0
    assert f'Version {OTHERWISE} of "trips" failed its proof' in wrong.stderr
    kept = store.proof(OTHERWISE)
    assert kept is not None
    assert not kept.passed
    right = roll_out(GOOD)
    assert right.returncode == 0, right.stderr
    proof, desired = store.proof(GOOD), store.desired()
    assert proof is not None
    assert proof.passed
    assert desired is not None
    assert desired.version == GOOD
    assert left_behind(store) == []
