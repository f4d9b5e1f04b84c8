"""One model for every server: flights of January, trained once by the real pipeline and kept under .bench/model/<key>.

::

    model/<key>/
      1/, 2/           version folders (bench.serving.train)
      ready.json       written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.serving.places import MODELS
from ct.contracts import RunRequest, Span, TriggerKind, VersionManifest
from ct.deploy import deploy
from ct.home import Home, write_atomically
from ct.planes import PROJECT, Plane, python, requirements
from ct.rollout import ModelStore, apply, plan_rollout
from ct.settings import Settings
from ct.sources.flights_sample import write_months
from ct.worker.environment import training_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ct.rollout import Applied, Plan

MODEL = "flights"
PIPELINE = PROJECT / "pipelines" / MODEL
INPUTS = ("pipelines/flights", "ct/training", "ct/sources", "bench/serving/train.py")
"""What the model depends on, beside the pins of the training plane. Other changes need no new one."""
KEY_CHARACTERS = 16
VERSIONS = (1, 2)
SERVED = 2
"""The version that all servers serve while they are compared: the refit."""


@dataclass(frozen=True)
class Trained:
    """The trained versions on disk."""

    folder: Path

    def saved_model(self, version: int = SERVED) -> Path:
        """A version's SavedModel; the peers get the very folder that ours is staged from."""
        return self.folder / str(version) / "saved_model"

    def examples(self, version: int = SERVED) -> dict[str, Any]:
        """`{"instances": [row, ...], "predictions": [float, ...]}`: real rows, and what the model says of them offline."""
        path = self.folder / str(version) / "examples.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def manifest(self, version: int = SERVED) -> VersionManifest:
        """What a version is."""
        path = self.folder / str(version) / "manifest.json"
        return VersionManifest.model_validate_json(path.read_text(encoding="utf-8"))


class NoRegistry:
    """A benchmark's flips are told to nobody."""

    def point_champion(self, name: str, version: int) -> None:
        """Nothing to point at."""

    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Nothing to tag."""


def trained(say: Callable[[str], None]) -> Trained:
    """The model, trained now unless the same inputs were trained from before.

    Raises:
        BenchError: training failed; its logs stay.
        PlaneMissingError: `make setup` has not run.
    """
    folder = MODELS / _key()
    if not (folder / "ready.json").exists():
        say("training the model: the flights pipeline on January, without Airflow")
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        versions = _train(Home(unfinished / "home").create(), say)
        shutil.rmtree(folder, ignore_errors=True)
        versions.rename(folder)
        shutil.rmtree(unfinished)
        write_atomically(folder / "ready.json", json.dumps({"trained_at": datetime.now(timezone.utc).isoformat()}))
    return Trained(folder)


def stage(model: Trained, home: Home) -> ModelStore:
    """Put both versions into a home's model store and let SERVED serve, the other one warm."""
    store = ModelStore(home, MODEL)
    for version in VERSIONS:
        store.stage(model.saved_model(version), model.manifest(version), model.examples(version))
        change(store, plan_rollout(MODEL, version, **store.facts(len(VERSIONS))), "to be measured")
    return store


def change(store: ModelStore, plan: Plan, reason: str) -> Applied:
    """Apply a plan, with no registry to follow it."""
    return apply(plan, store, NoRegistry(), actor="bench", reason=reason, clock=lambda: datetime.now(timezone.utc))


def _key() -> str:
    digest = hashlib.sha256(requirements(Plane.TRAINING).read_bytes())
    for name in INPUTS:
        root = PROJECT / name
        paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        for path in paths:
            if "__pycache__" not in path.parts:
                digest.update(f"\0{path.relative_to(PROJECT)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:KEY_CHARACTERS]


def _train(home: Home, say: Callable[[str], None]) -> Path:
    """The folder of the trained versions."""
    spec = deploy(PIPELINE, home, on_line=say).spec
    (span_path,) = write_months(home.landing / MODEL, [1])
    now = datetime.now(timezone.utc)
    content = span_path.read_bytes()
    span = Span(
        pipeline=MODEL,
        name=span_path.stem,
        revision=1,
        sha256=hashlib.sha256(content).hexdigest(),
        uri=str(span_path),
        format="parquet",
        size_bytes=len(content),
        seen_at=now,
    )
    request = RunRequest(
        run_id="bench",
        pipeline=MODEL,
        spec_hash=spec.spec_hash,
        trigger=TriggerKind.MANUAL,
        requested_at=now,
        spans=(span,),
        new_spans=(span.name,),
        seed=int(spec.config["seed"]),
        airflow_dag_id=MODEL,
        airflow_run_id="bench",
        mlflow_run_id=None,
    )
    path = home.request_path(request.run_id)
    write_atomically(path, request.model_dump_json())
    _run_nodes(path, home, say)
    return path.parent / "versions"


def _run_nodes(request_path: Path, home: Home, say: Callable[[str], None]) -> None:
    command = [str(python(Plane.TRAINING)), "-m", "bench.serving.train", str(request_path)]
    environment = {**os.environ, **training_environment(home, Settings.load(home))}
    log = request_path.with_name("train.log")
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101  it is piped
        for line in process.stdout:
            say(f"  {line.rstrip()}")
    if process.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
        raise BenchError(f"Training the model failed; the log {log} ends:\n{tail}")
