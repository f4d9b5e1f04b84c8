"""Reproduce: a version rebuilt from its record alone, by the same nodes, and compared with what was registered.

On disk, while it goes on::

    scratch/reproduce-*/         a CT_HOME of its own, removed at the end
      deployed/<p>/specs/<spec_hash>/   the stored spec, copied
      runs/<run_id>/                    the request, made from the manifest, and a result a node
      artifacts/<p>/                    what the nodes write
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct.contracts import NodeJob, RunRequest, TriggerKind
from ct.deploy import spec_dir_of
from ct.errors import ReproduceError
from ct.home import Home, write_atomically
from ct.settings import Settings
from ct.worker.client import SOCKET, NodeRun
from ct.worker.environment import training_environment
from ct.worker.execution import CancelSignal, Execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import NodeResult
    from ct.reproduce.recipe import Recipe
    from ct.rollout import ModelStore

COMPARE = "ct.training.reproduce:main"
LAST_LINES = 12
NO_WORKER = "WARNING: no warm worker"
"""How ct.worker.execution begins to say so, for each node."""


@dataclass(frozen=True)
class Comparison:
    """A rebuilt model beside the registered one. Differences are absolute, of probabilities."""

    examples: int
    """Rows of examples.json, against the predictions that were recorded with them."""
    examples_difference: float
    rows: int
    """Rows that the candidate was judged on, predicted by both models."""
    rows_difference: float
    weights: int
    weights_difference: float
    """Largest over all weights; infinite where the two have not the same ones."""
    saved_model_sha256: str
    """Of the rebuilt model. TensorFlow writes random ids into the graph, so it differs where every weight is the same."""

    @property
    def largest(self) -> float:
        """The largest difference of any prediction."""
        return max(self.examples_difference, self.rows_difference)


def reproduce(
    home: Home,
    store: ModelStore,
    recipe: Recipe,
    *,
    on_node: Callable[[NodeResult], None],
    on_line: Callable[[str], None],
) -> Comparison:
    """Run the nodes again in a home of their own, and compare the model with the registered one. Nothing else is touched.

    Args:
        home: lends its warm worker, when that runs.
        store: has the registered version.
        recipe: from `recipe_of`.
        on_node: told of each node that has finished.
        on_line: told what the warm worker or its absence has to say.

    Raises:
        ReproduceError: a node failed.
        PlaneMissingError: there is no warm worker and no training plane.
    """
    home.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.scratch, prefix=f"reproduce-{store.name}-") as folder:
        scratch = Home(Path(folder))
        request_path = _write_request(scratch, recipe)
        lines = _Lines(on_line)
        for node_id in recipe.node_ids:
            on_node(_run_node(home, scratch, recipe, request_path, node_id, lines))
        return _compare(home, store, recipe, scratch, lines)


def _write_request(scratch: Home, recipe: Recipe) -> Path:
    manifest, spec = recipe.manifest, recipe.spec
    request = RunRequest(
        run_id=manifest.run_id,
        pipeline=spec.pipeline,
        spec_hash=spec.spec_hash,
        trigger=TriggerKind.MANUAL,
        requested_at=manifest.created_at,
        spans=recipe.spans,
        new_spans=(recipe.spans[-1].name,),
        seed=manifest.seed or 0,
        airflow_dag_id=spec.pipeline,
        airflow_run_id="reproduce",
        mlflow_run_id=None,
        judged_on=tuple(span.name for span in recipe.spans if span.sha256 in manifest.verdict.judged_sha256),
    )
    shutil.copytree(recipe.spec_dir, spec_dir_of(scratch, spec.pipeline, spec.spec_hash))
    path = scratch.request_path(manifest.run_id)
    write_atomically(path, request.model_dump_json(indent=2))
    return path


def _run_node(home: Home, scratch: Home, recipe: Recipe, request_path: Path, node_id: str, lines: _Lines) -> NodeResult:
    spec = recipe.spec
    job = NodeJob(
        home=str(scratch.root),
        spec_dir=str(spec_dir_of(scratch, spec.pipeline, spec.spec_hash)),
        node_id=node_id,
        request_path=str(request_path),
        attempt=1,
    )
    lines.begin()
    result = NodeRun(job, request_path.with_name(f"{node_id}.job.json"), home, lines).execute()
    if not result.ok:
        raise ReproduceError(
            f'Rebuilding version {recipe.manifest.version} of "{spec.pipeline}" stopped: {result.message}. '
            f"Nothing that serves is affected. The last lines of {node_id}:\n{lines.last}",
            name=spec.pipeline,
            version=recipe.manifest.version,
            node_id=node_id,
        )
    return result


def _compare(home: Home, store: ModelStore, recipe: Recipe, scratch: Home, lines: _Lines) -> Comparison:
    """Both models' predictions and weights, computed in the training plane."""
    artifacts, registered = scratch.artifacts(recipe.spec.pipeline), store.version_path(recipe.manifest.version)
    asked = {
        "registered": str(registered / "saved_model"),
        "rebuilt": str(_only(artifacts / recipe.node_ids[-1] / "model")),
        "examples": str(registered / "examples.json"),
        "rows": str(_only(artifacts / "ExampleGen" / "examples") / "Split-eval"),
    }
    request, answer = scratch.root / "compare.json", scratch.root / "answer.json"
    write_atomically(request, json.dumps(asked))
    lines.begin()
    with closing(CancelSignal()) as cancel:
        Execution(
            entry=COMPARE,
            argv=(str(request), str(answer)),
            env=training_environment(home, Settings.load(home)),
            cwd=scratch.root,
            on_line=lines,
            cancel=cancel,
        ).run(home.socket(SOCKET))
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {"error": lines.last}
    if "error" in found:
        raise ReproduceError(
            f'Version {recipe.manifest.version} of "{store.name}" was rebuilt and could not be compared: {found["error"]}',
            name=store.name,
            version=recipe.manifest.version,
        )
    return Comparison(**found)


def _only(folder: Path) -> Path:
    """The folder's one subfolder: in a home of its own each node has run once."""
    (found,) = folder.iterdir()
    return found


class _Lines:
    """Says once that there is no warm worker, and keeps the last lines of the node that runs."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._told = False
        self._kept: list[str] = []

    def begin(self) -> None:
        """Another node's lines come now."""
        self._kept = []

    def __call__(self, line: str) -> None:
        if line.startswith(NO_WORKER) and not self._told:
            self._told = True
            self._on_line(line)
        self._kept = [*self._kept[1 - LAST_LINES :], line]

    @property
    def last(self) -> str:
        return "\n".join(f"  {line}" for line in self._kept)
