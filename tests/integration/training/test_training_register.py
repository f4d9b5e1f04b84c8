"""Register and Rollout against a real MLflow: every candidate becomes a version, and only what may serve is rolled out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from mlflow import MlflowClient
from tfx.types import standard_artifacts
from tiny_run import NOW, Run, in_fork, write_split

from ct.contracts import Approval, Outcome, RefitAgreement, VersionManifest
from ct.errors import CTError, NothingToProveError, RegistryError, RolloutError
from ct.home import Home
from ct.planes import Plane, python
from ct.rollout import ModelStore, apply, lift_quarantine, plan_rollback, plan_rollout, tree_sha256
from ct.training import artifacts
from ct.training.evaluation import Gate
from ct.training.facts import collected
from ct.training.register import Register, stage_version, tags_of
from ct.training.rollout_node import Rollout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the control plane with an empty store."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    mlflow = python(Plane.CONTROL).with_name("mlflow")
    command = [str(mlflow), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "a")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _healthy(f"http://127.0.0.1:{port}/health"):
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own server
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass(frozen=True)
class Registered:
    """A run of which Register runs, in a home of its own."""

    run: Run
    made_in: Home
    """Where the outputs of the run's nodes are."""
    mlflow_url: str
    folder: Path
    outcome: Outcome
    examples: Path | None = None
    """Judged on instead of the run's own."""

    def register(self, attempt: str = "1") -> dict[str, Any]:
        """Run the node Register in a fork; what it reported, or how it failed."""
        return dict(in_fork(_register, self, str(self.folder / attempt)))

    def roll_out(self, attempt: str = "1") -> dict[str, Any]:
        """Run the node Rollout in a fork on what Register left."""
        return dict(in_fork(_roll_out, self, str(self.folder / attempt)))

    def output(self, node: str, key: str) -> Path:
        """The output of a node in the first run that ran there."""
        outputs = (self.made_in.artifacts("tiny") / node / key).iterdir()
        return min((path for path in outputs if path.name.isdecimal()), key=lambda path: int(path.name))

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.run.home, "tiny")


def _register(registered: Registered, registration_uri: str) -> dict[str, Any]:
    run = registered.run
    inputs: dict[str, Any] = {
        "model": (standard_artifacts.Model(), "Trainer", "model"),
        "examples": (standard_artifacts.Examples(), "ExampleGen", "examples"),
        "statistics": (standard_artifacts.ExampleStatistics(), "StatisticsGen", "statistics"),
        "anomalies": (standard_artifacts.ExampleAnomalies(), "ExampleValidator", "anomalies"),
        "schema": (standard_artifacts.Schema(), "Schema", "schema"),
        "evaluation": (standard_artifacts.ModelEvaluation(), "Evaluator", "evaluation"),
    }
    inputs["refit_model"] = (standard_artifacts.Model(), "Refit", "model")
    for artifact, node, key in inputs.values():
        artifact.uri = str(registered.output(node, key))
    inputs["examples"][0].split_names = json.dumps(["train", "eval"])
    if registered.examples is not None:
        inputs["examples"][0].uri = str(registered.examples)
    verdict, registration = artifacts.Verdict(), artifacts.Registration()
    verdict.uri, registration.uri = str(registered.folder / "verdict"), registration_uri
    judged = run.verdict().model_copy(update={"outcome": registered.outcome, "reason": "as the test says"})
    (registered.folder / "verdict").mkdir(exist_ok=True)
    (registered.folder / "verdict" / "verdict.json").write_text(judged.model_dump_json())
    return _called(
        registered,
        Register,
        **{name: artifact for name, (artifact, _, _) in inputs.items()},
        verdict=verdict,
        registration=registration,
    )


def _roll_out(registered: Registered, registration_uri: str) -> dict[str, Any]:
    registration = artifacts.Registration()
    registration.uri = registration_uri
    return _called(registered, Rollout, registration=registration)


def _called(registered: Registered, component: Any, **inputs: Any) -> dict[str, Any]:
    os.environ["CT_MLFLOW_URL"] = registered.mlflow_url
    path = str(registered.run.home.request_path(registered.run.request.run_id))
    with collected() as facts:
        try:
            component.EXECUTOR_SPEC.executor_class._FUNCTION(request_path=path, **inputs)
        except CTError as error:
            return {"error": type(error).__name__, "message": error.message, **error.facts}
    return {"message": facts.message, **facts.values}


@pytest.fixture
def first(first_run: Run, mlflow_url: str, tmp_path: Path) -> Registered:
    """The first run with its refit, under a run id of its own, in a home where nothing is registered."""
    home = Home(tmp_path / "home").create()
    shutil.copytree(first_run.home.deployed, home.deployed, dirs_exist_ok=True)
    run_id = f"tiny-{tmp_path.name.replace('_', '-')}"
    request = first_run.request.model_copy(update={"run_id": run_id})
    shutil.copytree(first_run.folder, home.runs / run_id)
    home.request_path(run_id).write_text(request.model_dump_json())
    folder = tmp_path / "given"
    folder.mkdir()
    run = replace(first_run, home=home, request=request)
    return Registered(run, first_run.home, mlflow_url, folder, Outcome.APPROVED)


def test_an_approved_candidate_is_registered_refitted_and_rolled_out(first: Registered) -> None:
    """The refit serves, in its twin's name; store, MLflow and record say the same of it; a rerun adds nothing."""
    told = first.register()
    assert "error" not in told, told
    version = told["version"]
    manifest = first.store.manifest(version)
    assert told["message"] == f"version {version} of tiny registered, approved"
    assert (manifest.refit, manifest.may_serve, told["may_serve"]) == (True, True, True)
    refit = first.output("Refit", "model") / "Format-Serving"
    assert (
        manifest.saved_model_sha256
        == tree_sha256(refit)
        == tree_sha256(first.store.version_path(version) / "saved_model")
    )
    assert (manifest.spec_hash, manifest.seed) == (first.run.request.spec_hash, first.run.request.seed)
    assert manifest.fingerprint == first.run.request.fingerprint
    assert manifest.recipe_hash == first.run.spec.recipe_hash is not None
    (made,) = manifest.made_with
    logged = MlflowClient(first.mlflow_url).get_run(str(manifest.mlflow_run_id)).data.tags
    assert (logged["ct.own_code_sha256"], logged["ct.own_version"]) == (made.code_sha256, made.version)
    assert logged["ct.requirements_sha256.training"] == made.requirement_hashes["training"]
    assert manifest.agreement is not None
    assert manifest.agreement.rows == 60
    tags = MlflowClient(first.mlflow_url).get_model_version("tiny", str(version)).tags
    assert (tags["ct.verdict"], tags["ct.fingerprint"]) == ("approved", manifest.fingerprint)
    assert RefitAgreement.model_validate_json(tags["ct.refit_agreement"]) == manifest.agreement
    assert "verdict.html" in _artifacts(first, manifest)
    rolled_out = first.roll_out()
    assert rolled_out["message"].startswith(f"version {version} of tiny is rolled out"), rolled_out
    assert first.register("2")["version"] == version
    assert first.roll_out("2")["message"] == f"version {version} serves already"
    assert [entry.version for entry in first.store.history()] == [version]


def test_a_candidate_whose_refit_does_not_agree_with_it_is_registered_as_it_was_judged_and_withheld(
    first: Registered,
) -> None:
    """It can be looked at, and serves only when somebody forces it; the message says what serves and what to do."""
    _allow(first, refit_difference=1e-6)
    told = first.register()
    assert "error" not in told, told
    version = told["version"]
    manifest = first.store.manifest(version)
    assert manifest.agreement is not None
    assert manifest.withheld == (
        "its refit does not agree with it on 60 rows that the refit has learnt from: their predictions differ by "
        f"{manifest.agreement.mean_difference:.4f} on average, and gate.refit_difference allows 1e-06"
    )
    assert (manifest.verdict.outcome, manifest.refit, manifest.may_serve) == (Outcome.APPROVED, False, False)
    assert manifest.saved_model_sha256 == tree_sha256(first.output("Trainer", "model") / "Format-Serving")
    assert told["message"].startswith(
        f"version {version} of tiny registered, withheld: {manifest.withheld}. Nothing serves"
    )
    assert "set `refit: false` in pipeline.yaml, deploy it and run `ct trigger tiny --force`" in told["message"]
    assert (told["withheld"], told["may_serve"]) == (manifest.withheld, False)
    assert RefitAgreement.model_validate(told["agreement"]) == manifest.agreement
    client = MlflowClient(first.mlflow_url)
    assert client.get_model_version("tiny", str(version)).tags["ct.withheld"] == manifest.withheld
    logged = client.get_run(str(manifest.mlflow_run_id))
    assert (logged.data.tags["ct.refit"], logged.data.tags["ct.withheld"]) == ("false", manifest.withheld)
    assert logged.info.status == "FINISHED"
    refused = first.roll_out()
    assert refused["error"] == "RolloutError"
    assert f'Version {version} of "tiny" is withheld: its refit does not agree with it' in refused["message"]
    assert f"ct rollout tiny --version {version} --force --reason" in refused["message"]
    assert first.register("2")["version"] == version
    assert first.store.versions() == (version,)


def _allow(registered: Registered, **limits: float) -> None:
    """Deploy the pipeline with other limits, in the home of this run."""
    request = registered.run.request
    path = registered.run.home.deployed / request.pipeline / "specs" / request.spec_hash / "spec.json"
    spec = json.loads(path.read_text())
    spec["config"]["gate"] |= limits
    path.write_text(json.dumps(spec))


def _columns(rows: int = 60) -> dict[str, pa.Array]:
    """The tiny pipeline's raw columns: small ones are late."""
    return {
        "time": pa.array([f"2013-01-10T{row % 24:02}:00:00+00:00" for row in range(rows)]),
        "kind": pa.array(["abc"[row % 3] for row in range(rows)]),
        "size": pa.array([float(row % 5 - 2) for row in range(rows)], pa.float32()),
        "late": pa.array([int(row % 5 > 2) for row in range(rows)]),
    }


def _without(column: pa.Array, rows: Collection[int]) -> pa.Array:
    """The column with values missing in some rows."""
    return pa.array([None if row in rows else value for row, value in enumerate(column.to_pylist())]).cast(column.type)


@pytest.mark.parametrize(
    ("column", "missing", "left"),
    [
        ("kind", (0, 7), 58),
        ("size", (0, 7), 58),
        ("size", range(59), 1),
        ("late", (0,), 59),
        ("time", (0,), 60),
        ("stops", (0, 30), 60),
    ],
    ids=["text", "number", "all but one row", "label", "text that is not served", "integer that is not served"],
)
def test_data_with_missing_values_gets_a_version(
    first: Registered, tmp_path: Path, column: str, missing: Collection[int], left: int
) -> None:
    """In the first row too. Rows that cannot be sent are no examples and have no say in the agreement; others are and have."""
    columns = {**_columns(), "stops": pa.array(range(60))}
    write_split(tmp_path / "e" / "Split-eval", **(columns | {column: _without(columns[column], missing)}))
    told = replace(first, examples=tmp_path / "e").register()
    assert "error" not in told, told
    manifest = first.store.manifest(told["version"])
    assert manifest.agreement is not None
    assert manifest.agreement.rows == left
    proof = json.loads((first.store.version_path(told["version"]) / "examples.json").read_text())
    assert len(proof["instances"]) == len(proof["predictions"]) == min(left, 32)
    assert all(set(row) == {"kind", "size"} and None not in row.values() for row in proof["instances"])


def test_data_without_a_whole_row_gets_no_version_and_the_error_says_why(first: Registered, tmp_path: Path) -> None:
    """No retry helps; serving could not prove such a version, so there is none."""
    columns = _columns()
    columns |= {"size": _without(columns["size"], range(60))}
    write_split(tmp_path / "e" / "Split-eval", **columns)
    told = replace(first, examples=tmp_path / "e").register()
    assert told["error"] == "NothingToProveError"
    assert not NothingToProveError.retryable
    assert (
        "No row of 2013-01 has a label and a finite value for each feature that the model serves (kind, size)"
        in (told["message"])
    )
    assert "what served before serves on. `ct data tiny 2013-01` shows" in told["message"]
    assert first.store.versions() == ()


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.INCONCLUSIVE])
def test_what_was_not_approved_is_registered_as_it_was_judged_and_not_rolled_out(
    first: Registered, outcome: Outcome
) -> None:
    """Its files are those of the Trainer, it can be looked at, and the node Rollout refuses it with the way to force it."""
    candidate = replace(first, outcome=outcome)
    told = candidate.register()
    assert "error" not in told, told
    version = told["version"]
    manifest = candidate.store.manifest(version)
    assert told["message"] == f"version {version} of tiny registered, {outcome.value}: as the test says"
    assert (manifest.refit, manifest.agreement, manifest.may_serve) == (False, None, False)
    assert manifest.saved_model_sha256 == tree_sha256(candidate.output("Trainer", "model") / "Format-Serving")
    assert MlflowClient(first.mlflow_url).get_model_version("tiny", str(version)).tags["ct.verdict"] == outcome.value
    refused = candidate.roll_out()
    assert refused["error"] == "RolloutError"
    assert f"ct rollout tiny --version {version} --force --reason" in refused["message"]
    assert candidate.store.desired() is None


def test_a_persons_answer_is_in_the_manifest_and_decides(first: Registered) -> None:
    """Inconclusive and approved by a person: the refit is registered, and may serve."""
    candidate = replace(first, outcome=Outcome.INCONCLUSIVE)
    answer = Approval(approved=True, by="anna", at=NOW, reason="looks well")
    (candidate.run.folder / "approval.json").write_text(answer.model_dump_json())
    told = candidate.register()
    manifest = candidate.store.manifest(told["version"])
    assert (manifest.approval, manifest.refit, manifest.may_serve) == (answer, True, True)
    assert told["message"].endswith("registered, approved by anna")
    assert tags_of(manifest)["ct.approval"] == "approved by anna: looks well"


def test_a_retrain_on_the_inputs_of_a_version_that_was_rolled_back_from_is_refused(first: Registered) -> None:
    """The gate itself says no, and because of which version; once somebody lifts the quarantine it judges as ever."""
    version = first.register()["version"]
    older = first.store.manifest(version).model_copy(update={"version": 1000, "seed": 8})
    stage_version(first.store, older, first.output("Trainer", "model") / "Format-Serving", {})
    for each in (1000, version):
        plan = plan_rollout("tiny", each, **first.store.facts(3))
        apply(plan, first.store, NoRegistry(), actor="t", reason="t", clock=lambda: NOW)
    back = plan_rollback("tiny", None, **first.store.facts(3))
    apply(back, first.store, NoRegistry(), actor="anna", reason="complaints", clock=lambda: NOW)
    refused = in_fork(_gate, first)
    assert refused["outcome"] == "refused"
    assert f"version {version} (anna: complaints); see ct quarantine tiny" in refused["reason"]
    lift_quarantine(first.store, version, by="anna", reason="it was the network", at=NOW)
    assert in_fork(_gate, first)["outcome"] == "approved"


class NoRegistry:
    """MLflow is down."""

    def point_champion(self, name: str, version: int) -> None:
        """Say so."""
        raise RegistryError(f"no registry for {name} {version}")

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Say so."""
        raise RegistryError(f"no registry for {name} {version} {tags}")


def _gate(registered: Registered) -> dict[str, Any]:
    examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
    champion, evaluation = standard_artifacts.Model(), standard_artifacts.ModelEvaluation()
    examples.uri, model.uri = (
        str(registered.output("ExampleGen", "examples")),
        str(registered.output("Trainer", "model")),
    )
    champion.set_string_custom_property("version", "")
    examples.split_names = json.dumps(["train", "eval"])
    evaluation.uri, verdict = str(registered.output("Evaluator", "evaluation")), artifacts.Verdict()
    verdict.uri = str(registered.folder / "judged")
    (registered.folder / "judged").mkdir(exist_ok=True)
    return _called(
        registered, Gate, examples=examples, model=model, champion=champion, evaluation=evaluation, verdict=verdict
    )


def test_a_version_that_serving_has_loaded_is_never_replaced(first: Registered, tmp_path: Path) -> None:
    """A rerun of Trainer and Register makes another model of the same version; what serves keeps its files."""
    version = first.register()["version"]
    manifest: VersionManifest = first.store.manifest(version)
    other = tmp_path / "other"
    other.mkdir()
    (other / "saved_model.pb").write_text("another")
    replaced = manifest.model_copy(update={"saved_model_sha256": tree_sha256(other)})
    assert stage_version(first.store, replaced, other, {}) == replaced
    shutil.rmtree(first.store.version_path(version))
    first.register("2")
    first.roll_out("2")
    with pytest.raises(RolloutError, match="serving has that loaded"):
        stage_version(first.store, replaced, other, {})
    assert first.store.manifest(version).saved_model_sha256 == manifest.saved_model_sha256


def _artifacts(registered: Registered, manifest: VersionManifest) -> list[str]:
    client = MlflowClient(registered.mlflow_url)
    return [each.path for each in client.list_artifacts(str(manifest.mlflow_run_id))]
