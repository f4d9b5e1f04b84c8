"""Deploy: a pipeline folder becomes a spec that is stored by content, and from then on that is what runs.

The control plane checks pipeline.yaml and copies the files; the training plane compiles them. The pointer is written last,
so a deploy that fails leaves what was deployed before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from ct import __version__
from ct.config import load_pipeline_config
from ct.contracts import DeployedSpec, NodeSpec
from ct.errors import ConfigError, CTError
from ct.home import write_atomically
from ct.made_with import commit_of
from ct.planes import Plane, python, requirement_hashes
from ct.settings import Settings
from ct.worker.environment import training_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ct.config import PipelineConfig
    from ct.home import Home

HASH_CHARACTERS, SCHEMA_HASH_CHARACTERS = 16, 12
LEFT_OUT = ("__pycache__", ".ipynb_checkpoints", ".DS_Store")
NOT_IN_RECIPE_FILES = ("README.md", "pipeline.yaml")
"""README.md is for people. What pipeline.yaml says counts key by key, and its comments and order do not."""
NOT_IN_RECIPE: dict[str, Any] = {
    # for people and Airflow's pages
    **dict.fromkeys(("description", "owner", "tags"), True),
    # when runs start, and how often a node is tried
    **dict.fromkeys(("trigger", "nodes"), True),
    # what may be trained on, how a candidate is judged, and what becomes of it. That `gate.inconclusive` and `gate.wait_spans`
    # choose the spans to judge on does not count either (ct.contracts.fingerprint_of).
    **dict.fromkeys(("validation", "evaluate", "gate", "serving", "monitor", "retention"), True),
    # Which spans are in the window: they stand in the fingerprint themselves. Its other keys cut an only span in two.
    "window": {"max_spans"},
    # Where spans come from and where one ends: their bytes stand in the fingerprint. `max_bad_rows` decides whether a span is
    # refused, and no row of one that is not. Each key by itself: a later one that changes how bytes become rows counts.
    "source": {
        *("kind", "path", "pattern", "uri", "connection", "late", "deleted", "max_bad_rows"),
        *("lateness_s", "revisit", "table", "query", "watermark", "span", "keyspace", "bucket", "columns"),
        *("span_rows", "close_after_s", "topic", "stream"),
    },
}
"""Keys of pipeline.yaml that do not make the model, by the names of PipelineConfig. Any other makes it, a new one too."""


@dataclass(frozen=True)
class DeployOutcome:
    """What a deploy did."""

    spec: DeployedSpec
    changed: bool
    """False when exactly this content was deployed already."""


def deploy(folder: Path, home: Home, *, on_line: Callable[[str], None]) -> DeployOutcome:
    """Deploy a pipeline folder. Doing it again with the same content changes nothing.

    Args:
        folder: the pipeline's folder.
        home: where the spec is stored.
        on_line: told what happens, a line a step.

    Raises:
        ConfigError: pipeline.yaml or the pipeline's code is wrong. What was deployed before is deployed still.
        PlaneMissingError: the training plane is not installed.
    """
    folder = folder.resolve()
    config = load_pipeline_config(folder)
    spec_hash = content_hash(folder)
    if spec_hash == _current_hash(home, config.name):
        return DeployOutcome(deployed_spec(home, config.name), changed=False)
    spec_dir = home.deployed / config.name / "specs" / spec_hash
    if not (spec_dir / "spec.json").exists():
        on_line(f"compiling {config.name} to TFX IR")
        _store(folder, config, spec_hash, spec_dir, home)
    (home.landing / config.name).mkdir(parents=True, exist_ok=True)
    write_atomically(home.deployed / config.name / "current.json", json.dumps({"spec_hash": spec_hash}))
    return DeployOutcome(deployed_spec(home, config.name), changed=True)


def deployed_pipelines(home: Home) -> tuple[str, ...]:
    """Names of the pipelines that are deployed."""
    return tuple(sorted(path.parent.name for path in home.deployed.glob("*/current.json")))


def deployed_spec(home: Home, pipeline: str) -> DeployedSpec:
    """What is deployed under this name.

    Raises:
        ConfigError: nothing is.
    """
    spec_hash = _current_hash(home, pipeline)
    if spec_hash is None:
        known = ", ".join(deployed_pipelines(home)) or "none yet"
        raise ConfigError(
            f'No pipeline "{pipeline}" is deployed (deployed: {known}). Run `ct deploy pipelines/{pipeline}`.',
            pipeline=pipeline,
        )
    path = spec_dir_of(home, pipeline, spec_hash) / "spec.json"
    return DeployedSpec.model_validate_json(path.read_text(encoding="utf-8"))


def schema_hash(schema: Path) -> str:
    """What stands for a schema.pbtxt in the names of the spans that were encoded by it (ct.training.example_gen)."""
    return hashlib.sha256(schema.read_bytes()).hexdigest()[:SCHEMA_HASH_CHARACTERS]


def spec_dir_of(home: Home, pipeline: str, spec_hash: str) -> Path:
    """The folder of a stored spec."""
    return home.deployed / pipeline / "specs" / spec_hash


def content_hash(folder: Path, *, without: tuple[str, ...] = ()) -> str:
    """The hash of a pipeline's files and of this version of ct: the name of its spec.

    Args:
        folder: the pipeline's folder.
        without: relative paths that do not count.
    """
    digest = hashlib.sha256(__version__.encode())
    _add_files(digest, folder, without)
    return digest.hexdigest()[:HASH_CHARACTERS]


def recipe_hash(folder: Path, config: PipelineConfig) -> str:
    """The hash of what makes a pipeline's model: its code, its schema, and the keys of its config that training reads.

    README.md, NOT_IN_RECIPE and ct's version do not count: a gate that was tightened trains the same model from the same spans.

    Args:
        folder: the pipeline's folder, or its copy in a stored spec.
        config: what its pipeline.yaml says.
    """
    package = folder / "__init__.py"
    is_empty = package.exists() and package.stat().st_size == 0  # deploying adds it where the folder has none
    digest = hashlib.sha256()
    _add_files(digest, folder, (*NOT_IN_RECIPE_FILES, *((package.name,) if is_empty else ())))
    # Without defaults: a key that a later ct brings changes no recipe until somebody sets it.
    blocks = config.model_dump(mode="json", exclude=NOT_IN_RECIPE, exclude_defaults=True)
    made_by = {key: value for key, value in blocks.items() if value != {}}
    digest.update(json.dumps(made_by, sort_keys=True).encode())
    return digest.hexdigest()[:HASH_CHARACTERS]


def _current_hash(home: Home, pipeline: str) -> str | None:
    path = home.deployed / pipeline / "current.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["spec_hash"]) if path.exists() else None


def _store(folder: Path, config: PipelineConfig, spec_hash: str, spec_dir: Path, home: Home) -> None:
    """Copy, compile and describe beside the final place, then move there in one step."""
    specs = spec_dir.parent
    specs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=specs, prefix=f".{spec_hash}.") as temporary:
        unfinished = Path(temporary) / "spec"
        code = unfinished / "code" / config.name
        for path in _files(folder):
            target = code / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (code / "__init__.py").touch()
        _compile(code, unfinished, home)
        nodes = TypeAdapter(tuple[NodeSpec, ...]).validate_json((unfinished / "nodes.json").read_text(encoding="utf-8"))
        spec = DeployedSpec(
            spec_hash=spec_hash,
            pipeline=config.name,
            config=config.model_dump(mode="json"),
            nodes=nodes,
            readme=(folder / "README.md").read_text(encoding="utf-8"),
            deployed_at=datetime.now(timezone.utc),
            code_commit=commit_of(folder, "."),
            requirement_hashes=requirement_hashes(),
            recipe_hash=recipe_hash(code, config),
        )
        write_atomically(unfinished / "spec.json", spec.model_dump_json(indent=2))
        try:
            unfinished.rename(spec_dir)
        except OSError:
            if not (spec_dir / "spec.json").exists():  # else another deploy of the same content was faster
                raise


def _compile(code: Path, out: Path, home: Home) -> None:
    command = [str(python(Plane.TRAINING)), "-m", "ct.training.compile", "--pipeline-dir", str(code), "--out", str(out)]
    environment = {**os.environ, **training_environment(home, Settings.load(home))}
    # in `out`, because Python looks for modules where it starts, and the pipeline's name is checked against those
    done = subprocess.run(command, cwd=out, env=environment, check=False, capture_output=True, text=True)
    error_path = out / "error.json"
    if error_path.exists():
        raise ConfigError(json.loads(error_path.read_text(encoding="utf-8"))["message"], pipeline=code.name)
    if done.returncode != 0:
        raise CTError(
            f"Compiling {code.name} failed. Nothing was deployed. The training plane said:\n{done.stderr[-4000:]}",
            pipeline=code.name,
        )


def _add_files(digest: hashlib._Hash, folder: Path, without: tuple[str, ...]) -> None:
    """Names, sizes and bytes of a folder's files, so that no byte can move from one to the next unseen."""
    for path in _files(folder):
        if str(path.relative_to(folder)) in without:
            continue
        digest.update(f"\0{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part in LEFT_OUT for part in path.relative_to(folder).parts):
            yield path
