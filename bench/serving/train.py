"""Train the model that every server serves: `python -m bench.serving.train <request.json>`, in the training plane.

No Airflow: the nodes are the pipeline's own, each in a fork, as the warm worker runs them. The run's candidate becomes version
1 and its refit version 2: two models that differ, so that a flip can be seen in the answers. Writes, beside the request::

    versions/<1|2>/
      saved_model/
      examples.json
      manifest.json    contracts.VersionManifest
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tfx.types import standard_artifacts

from ct.contracts import NodeJob, NodeResult, Verdict, VersionManifest
from ct.errors import NodeFailedError
from ct.rollout import tree_sha256
from ct.training import launch, preload
from ct.training.evaluation import eval_split
from ct.training.register import EXAMPLE_ROWS
from ct.training.rows import predict_examples, sample_rows, signature_features
from ct.training.run import load_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.training.run import Run

assert preload.LOADED  # noqa: S101  imported before the forks, which would otherwise import TensorFlow one by one, 7 s each
NODES = (
    *("ExampleGen", "StatisticsGen", "Schema", "ExampleValidator", "Transform", "Trainer"),
    *("Champion", "Evaluator", "Gate", "Refit"),
)
VERSIONS = {1: "Trainer", 2: "Refit"}


def main() -> int:
    """Run the nodes and write both versions; 0 when that is done."""
    (request_path,) = sys.argv[1:]
    run = load_run(request_path)
    for node_id in NODES:
        began = time.monotonic()
        _in_fork(run, node_id, partial(launch.main, [str(_job(run, request_path, node_id))]))
        print(f"{node_id} {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201  the parent shows it
    _in_fork(run, "versions", partial(_write_versions, run))
    return 0


def _job(run: Run, request_path: str, node_id: str) -> Path:
    job = NodeJob(
        home=str(run.home.root), spec_dir=str(run.spec_dir), node_id=node_id, request_path=request_path, attempt=1
    )
    path = Path(request_path).with_name(f"{node_id}.job.json")
    path.write_text(job.model_dump_json(), encoding="utf-8")
    return path


def _in_fork(run: Run, name: str, call: Callable[[], int]) -> None:
    """Call in a process of its own, its output into `<name>.log`: no fork is safe after TensorFlow has run.

    Raises:
        NodeFailedError: it did not return 0.
    """
    log = run.home.request_path(run.request.run_id).with_name(f"{name}.log")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = call()
        except BaseException:  # noqa: BLE001  the fork must not run on in the parent's frames
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise NodeFailedError(f"{name} failed; its output is in {log}", node_id=name)


def _write_versions(run: Run) -> int:
    result_path = run.home.request_path(run.request.run_id).with_name("Gate.result.json")
    gate = NodeResult.model_validate_json(result_path.read_text(encoding="utf-8"))
    examples = standard_artifacts.Examples()
    examples.uri = str(_output(run, "ExampleGen", "examples"))
    examples.split_names = json.dumps(["train", "eval"])
    for version, node_id in VERSIONS.items():
        saved_model = _output(run, node_id, "model") / "Format-Serving"
        folder = result_path.parent / "versions" / str(version)
        features = signature_features(saved_model)
        rows = sample_rows(eval_split(examples), features, run.config.label, run.request.seed).head(EXAMPLE_ROWS)
        shutil.copytree(saved_model, folder / "saved_model")
        (folder / "examples.json").write_text(json.dumps(predict_examples(saved_model, rows)), encoding="utf-8")
        manifest = VersionManifest(
            name=run.request.pipeline,
            version=version,
            created_at=datetime.now(timezone.utc),
            run_id=run.request.run_id,
            mlflow_run_id=None,
            features=features,
            label=run.config.label,
            spans=run.request.spans,
            refit=node_id == "Refit",
            verdict=Verdict.model_validate(gate.facts["verdict"]),
            saved_model_sha256=tree_sha256(saved_model),
            prediction_tolerance=run.config.serving.prediction_tolerance,
        )
        (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return 0


def _output(run: Run, node_id: str, key: str) -> Path:
    """The folder of a node's output; the home holds one run, so there is one."""
    (folder,) = (run.home.artifacts(run.request.pipeline) / node_id / key).iterdir()
    return Path(folder)


if __name__ == "__main__":
    sys.exit(main())
