"""What a version was made from, found again and hashed: the first half of `ct reproduce`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ct.config import parse_pipeline_config
from ct.contracts import DeployedSpec, nodes_of_model
from ct.deploy import content_hash, recipe_hash, spec_dir_of
from ct.errors import ConfigError, ReproduceError
from ct.made_with import made_with_now
from ct.planes import Plane
from ct.rollout import tree_sha256
from ct.sources.arrival import sha256_of

if TYPE_CHECKING:
    from ct.contracts import MadeWith, Span, VersionManifest
    from ct.home import Home
    from ct.rollout import ModelStore

SHORT = 12
"""Characters of a hash that people compare."""


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
        return nodes_of_model(refit=self.manifest.refit)

    @property
    def requirements(self) -> tuple[str, ...]:
        """The recorded hash of the training plane's requirements; several where they changed within the run."""
        return _requirements(self.manifest, self.spec)


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
    missing = set(nodes_of_model(refit=manifest.refit)) - {node.id for node in spec.nodes}
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
    now = made_with_now()
    installed = now.requirement_hashes[Plane.TRAINING.value]
    differences = [
        f"requirements of the training plane: {recorded[:SHORT]} recorded, {installed[:SHORT]} installed from now"
        for recorded in _requirements(manifest, spec)
        if recorded != installed
    ]
    differences += [
        f"ct's own code: {in_words(made)} recorded, {in_words(now)} now"
        for made in manifest.made_with
        if made.code_sha256 != now.code_sha256
    ]
    differences += _changed_pipeline(manifest, spec, spec_dir / "code" / spec.pipeline)
    if tree_sha256(store.version_path(manifest.version) / "saved_model") != manifest.saved_model_sha256:
        differences.append("registered model: its files are not those that were registered")
    return differences


def in_words(made: MadeWith) -> str:
    """Which ct it was."""
    return f"{made.code_sha256[:SHORT]} (version {made.version}, commit {made.commit or 'unknown'})"


def _requirements(manifest: VersionManifest, spec: DeployedSpec) -> tuple[str, ...]:
    """Of versions from before the nodes wrote it down, what the spec was stored with is all there is."""
    hashes = [made.requirement_hashes for made in manifest.made_with] or [spec.requirement_hashes]
    return tuple(dict.fromkeys(each.get(Plane.TRAINING.value, "") for each in hashes))


def _changed_pipeline(manifest: VersionManifest, spec: DeployedSpec, code: Path) -> list[str]:
    """That the stored files, or what pipeline.yaml said of training, are others than those that were deployed."""
    if manifest.recipe_hash is None:
        hashes_to_it = _as_deployed(code, spec.spec_hash)
        return [] if hashes_to_it else [f"spec: its stored files and this ct do not hash to {spec.spec_hash}"]
    try:
        config = parse_pipeline_config(spec.config, where="its pipeline.yaml")
    except ConfigError as error:
        problems = "; ".join(error.facts["problems"])
        raise _cannot(
            manifest, f"this ct cannot read the pipeline.yaml of spec {spec.spec_hash}: {problems}"
        ) from error
    if recipe_hash(code, config) == manifest.recipe_hash:
        return []
    return [f"pipeline: its stored code, schema and settings do not hash to the recipe {manifest.recipe_hash}"]


def _as_deployed(code: Path, spec_hash: str) -> bool:
    """Whether the stored files are those that were deployed, by this version of ct."""
    added = code / "__init__.py"
    hashes = {content_hash(code)}
    if added.stat().st_size == 0:  # deploying adds it where the folder has none
        hashes.add(content_hash(code, without=(added.name,)))
    return spec_hash in hashes


def _cannot(manifest: VersionManifest, why: str) -> ReproduceError:
    return ReproduceError(
        f'Version {manifest.version} of "{manifest.name}" cannot be reproduced: {why}. Nothing was run; it can be served, '
        f"exported and rolled back to all the same.",
        name=manifest.name,
        version=manifest.version,
    )
