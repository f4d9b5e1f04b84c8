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

from ct.contracts import DeployedSpec, NodeJob, RunRequest, TriggerKind
from ct.deploy import content_hash, spec_dir_of
from ct.errors import ReproduceError
from ct.home import Home, write_atomically
from ct.planes import Plane, requirements
from ct.rollout import tree_sha256
from ct.settings import Settings
from ct.sources.arrival import sha256_of
from ct.worker.client import SOCKET, NodeRun
from ct.worker.environment import training_environment
from ct.worker.execution import CancelSignal, Execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct.contracts import NodeResult, Span, VersionManifest
    from ct.rollout import ModelStore

INGEST_AND_TRANSFORM = ("ExampleGen", "Schema", "Transform")
TRAINER, REFIT = "Trainer", "Refit"
COMPARE = "ct.training.reproduce:main"
LAST_LINES = 12
NO_WORKER = "WARNING: no warm worker"
"""How ct.worker.execution begins to say so, for each node."""


@dataclass(frozen=True)
class Recipe:
    """What a version was made from, found again."""

    manifest: VersionManifest
    spec: DeployedSpec
    spec_dir: Path
    spans: tuple[Span, ...]
    """Each with the address at which its bytes are now."""
    differences: tuple[str, ...]
    """What is not as recorded, a sentence each; rebuilding is possible all the same."""

    @property
    def node_ids(self) -> tuple[str, ...]:
        """The nodes that made the model. Statistics, validation and gate did not change it and are not run again."""
        return (*INGEST_AND_TRANSFORM, REFIT if self.manifest.refit else TRAINER)


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


def recipe_of(home: Home, store: ModelStore, version: int, *, anyway: bool) -> Recipe:
    """Find everything that a version was made from, and hash it.

    Args:
        home: where spec and spans are.
        store: the model's store.
        version: the version.
        anyway: go on where the environment or the spec's files are not those that were recorded.

    Raises:
        UnknownVersionError: there is no such version.
        ReproduceError: its spec or the bytes of a span are gone, or something differs and `anyway` is not set.
    """
    manifest = store.manifest(version)
    spec_dir, spec = _spec_of(home, manifest)
    missing = {node for node in INGEST_AND_TRANSFORM if node not in {node.id for node in spec.nodes}}
    if missing:
        raise _cannot(manifest, f"its spec {spec.spec_hash} has no node {', '.join(sorted(missing))}")
    spans = _found(home, manifest)
    differences = tuple(_differences(store, manifest, spec, spec_dir))
    if differences and not anyway:
        lines = "\n".join(f"  - {line}" for line in differences)
        raise ReproduceError(
            f'Version {version} of "{manifest.name}" was made with something else than what is here. Nothing was run. '
            f"`ct reproduce {manifest.name} {version} --anyway` goes on, and compares.\n{lines}",
            name=manifest.name,
            version=version,
            differences=list(differences),
        )
    return Recipe(manifest, spec, spec_dir, spans, differences)


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


def _spec_of(home: Home, manifest: VersionManifest) -> tuple[Path, DeployedSpec]:
    if manifest.spec_hash is None or manifest.seed is None:
        raise _cannot(manifest, "it was registered before spec and seed were part of a version's record")
    spec_dir = spec_dir_of(home, manifest.name, manifest.spec_hash)
    try:
        text = (spec_dir / "spec.json").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _cannot(
            manifest, f"the spec that trained it, {manifest.spec_hash}, is not in {spec_dir.parent}"
        ) from error
    return spec_dir, DeployedSpec.model_validate_json(text)


def _found(home: Home, manifest: VersionManifest) -> tuple[Span, ...]:
    """The spans with the addresses of their bytes: where they were read, else the copy that was fetched."""
    found, problems = [], []
    for span in manifest.spans:
        copies = sorted(home.fetched(span.pipeline).glob(f"{span.sha256}.*"))
        problem = f"{span.name}: its bytes are gone from {span.uri}"
        for path in (Path(span.uri), *copies):
            if not path.is_file():
                continue
            if sha256_of(path) == span.sha256:
                found.append(span.model_copy(update={"uri": str(path)}))
                break
            problem = f"{span.name}: {path} holds other bytes now than revision {span.revision}, {span.sha256[:12]}"
        else:
            problems.append(problem)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise ReproduceError(
            f'Version {manifest.version} of "{manifest.name}" cannot be reproduced: {len(problems)} of its '
            f"{len(manifest.spans)} spans are not there. Nothing was run. Put the files back and try again.\n{lines}",
            name=manifest.name,
            version=manifest.version,
            missing=problems,
        )
    return tuple(found)


def _differences(store: ModelStore, manifest: VersionManifest, spec: DeployedSpec, spec_dir: Path) -> list[str]:
    recorded = spec.requirement_hashes.get(Plane.TRAINING.value, "")
    now = sha256_of(requirements(Plane.TRAINING))
    differences = []
    if recorded != now:
        differences.append(
            f"requirements of the training plane: {recorded[:12]} recorded, {now[:12]} installed from now"
        )
    if not _as_deployed(spec_dir / "code" / spec.pipeline, spec.spec_hash):
        differences.append(f"spec: its stored files and this ct do not hash to {spec.spec_hash}")
    if tree_sha256(store.version_path(manifest.version) / "saved_model") != manifest.saved_model_sha256:
        differences.append("registered model: its files are not those that were registered")
    return differences


def _as_deployed(code: Path, spec_hash: str) -> bool:
    """Whether the stored files are those that were deployed, by this version of ct."""
    added = code / "__init__.py"
    hashes = {content_hash(code)}
    if added.stat().st_size == 0:  # deploying adds it where the folder has none
        hashes.add(content_hash(code, without=(added.name,)))
    return spec_hash in hashes


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


def _cannot(manifest: VersionManifest, why: str) -> ReproduceError:
    return ReproduceError(
        f'Version {manifest.version} of "{manifest.name}" cannot be reproduced: {why}. Nothing was run; it can be served, '
        f"exported and rolled back to all the same.",
        name=manifest.name,
        version=manifest.version,
    )
