"""Runs of the tiny pipeline without Airflow: each node in a fork, as the warm worker does it."""

from __future__ import annotations

import csv
import hashlib
import multiprocessing
import os
import random
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import tensorflow as tf

from ct.contracts import DesiredState, NodeJob, NodeResult, RunRequest, Span, TriggerKind, Verdict, VersionManifest
from ct.deploy import spec_dir_of
from ct.rollout import ModelStore, tree_sha256
from ct.training import launch, preload
from ct.training.encode import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ct.contracts import DeployedSpec
    from ct.home import Home

assert preload.LOADED  # a fork would otherwise import TensorFlow by itself, 7 s each
TINY = Path(__file__).parent / "tiny_pipeline"
UP_TO_GATE = (
    *("ExampleGen", "StatisticsGen", "Schema", "ExampleValidator", "Transform", "Trainer"),
    *("Champion", "Evaluator", "Gate"),
)
NOW = datetime(2013, 6, 1, tzinfo=timezone.utc)


def write_span(
    path: Path, *, month: int, rows: int = 300, kinds: str = "abc", header: str = "time,kind,size,late"
) -> Path:
    """A CSV span of ten days; the label follows from `size` and `kind`, with noise."""
    numbers = random.Random(month)  # noqa: S311  synthetic data
    begin = datetime(2013, month, 1, tzinfo=timezone.utc)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        for row in range(rows):
            size, kind = numbers.gauss(0, 1), numbers.choice(kinds)
            late = int(size + (kind == "a") + numbers.gauss(0, 0.5) > 0.5)
            time = (begin + timedelta(days=10 * row / rows)).isoformat()
            writer.writerow([time, kind, f"{size:.4f}", late][: header.count(",") + 1])
    return path


def write_split(folder: Path, **columns: pa.Array) -> Path:
    """A split of tf.Examples as ExampleGen encodes them; null is a missing value."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data_tfrecord-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for example in encode(pa.RecordBatch.from_pydict(columns)):
            writer.write(example)
    return folder


@dataclass(frozen=True)
class Run:
    """A run whose request is on disk."""

    home: Home
    spec: DeployedSpec
    request: RunRequest

    @property
    def folder(self) -> Path:
        return self.home.request_path(self.request.run_id).parent

    def job(self, node_id: str, attempt: int = 1) -> Path:
        """Write the job as the operator does."""
        spec_dir = spec_dir_of(self.home, self.spec.pipeline, self.spec.spec_hash)
        request_path = self.home.request_path(self.request.run_id)
        job = NodeJob(
            home=str(self.home.root),
            spec_dir=str(spec_dir),
            node_id=node_id,
            request_path=str(request_path),
            attempt=attempt,
        )
        path = self.folder / f"{node_id}.job.json"
        path.write_text(job.model_dump_json(), encoding="utf-8")
        return path

    def start(self, node_id: str, attempt: int = 1) -> int:
        """Fork a process that runs the node; its pid."""
        path = self.job(node_id, attempt)
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            log = os.open(self.folder / f"{node_id}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            code = launch.main([str(path)])
        except BaseException:  # noqa: BLE001  the fork must not run on in pytest's frames
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, node_id: str, pid: int) -> NodeResult:
        """The node's result, once its process is gone."""
        _, status = os.waitpid(pid, 0)
        result = self.result(node_id)
        assert (os.waitstatus_to_exitcode(status) == 0) == result.ok
        return result

    def result(self, node_id: str) -> NodeResult:
        """What the node wrote."""
        return NodeResult.model_validate_json((self.folder / f"{node_id}.result.json").read_text(encoding="utf-8"))

    def node(self, node_id: str, attempt: int = 1) -> NodeResult:
        """Run one node, whatever becomes of it."""
        return self.wait(node_id, self.start(node_id, attempt))

    def through(self, node_ids: Sequence[str]) -> Run:
        """Run nodes that must succeed."""
        for node_id in node_ids:
            result = self.node(node_id)
            assert result.ok, f"{node_id}: {result.message}\n{(self.folder / f'{node_id}.log').read_text()[-3000:]}"
        return self

    def verdict(self) -> Verdict:
        """What the gate decided."""
        return Verdict.model_validate(self.result("Gate").facts["verdict"])

    def output(self, node_id: str, key: str) -> Path:
        """The only folder of an output, of a home where only this run ran the node last."""
        folders = sorted(
            (self.home.artifacts(self.spec.pipeline) / node_id / key).iterdir(), key=lambda path: int(path.name)
        )
        return folders[-1]


def make_run(home: Home, spec: DeployedSpec, run_id: str, *paths: Path) -> Run:
    """A run over span files, oldest first, whose request is on disk."""
    spans = tuple(
        Span(
            pipeline=spec.pipeline,
            name=path.stem,
            revision=1,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            uri=str(path),
            format="csv",
            size_bytes=path.stat().st_size,
            seen_at=NOW,
        )
        for path in paths
    )
    request = RunRequest(
        run_id=run_id,
        pipeline=spec.pipeline,
        spec_hash=spec.spec_hash,
        trigger=TriggerKind.MANUAL,
        requested_at=NOW,
        spans=spans,
        new_spans=(spans[-1].name,),
        seed=7,
        airflow_dag_id=spec.pipeline,
        airflow_run_id="test",
        mlflow_run_id=None,
        recipe_hash=spec.recipe_hash,
    )
    path = home.request_path(run_id)
    path.parent.mkdir(parents=True)
    path.write_text(request.model_dump_json(), encoding="utf-8")
    return Run(home, spec, request)


def serve(run: Run, version: int) -> None:
    """Put the run's candidate into the model store and let it serve."""
    saved_model = run.output("Trainer", "model") / "Format-Serving"
    manifest = VersionManifest(
        name=run.spec.pipeline,
        version=version,
        created_at=NOW,
        run_id=run.request.run_id,
        mlflow_run_id=None,
        features=(),
        label="late",
        spans=run.request.spans,
        refit=False,
        verdict=run.verdict(),
        saved_model_sha256=tree_sha256(saved_model),
        prediction_tolerance=1e-5,
    )
    store = ModelStore(run.home, run.spec.pipeline)
    store.stage(saved_model, manifest, {"instances": [], "predictions": []})
    store.desire(DesiredState(name=run.spec.pipeline, generation=1, version=version, previous=None, warm=(version,)))


def in_fork(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what runs TensorFlow operations in a process of its own: nodes cannot be forked from one that has run any."""
    context = multiprocessing.get_context("fork")
    answer, send = context.Pipe(duplex=False)
    process = context.Process(target=lambda: send.send(function(*arguments)))
    process.start()
    send.close()
    value = answer.recv()
    process.join()
    return value
