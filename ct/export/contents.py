"""What stands in an exported archive, and where it comes from.

In the archive::

    <name>-<version>/
      card.md                the model card
      plots/verdict.png      every check with its interval
      saved_model/           the very files that serve
      manifest.json          contracts.VersionManifest
      verdict.json           contracts.Verdict, out of the manifest
      verdict.html           the same as a page, proof included
      examples.json          instances, and the predictions computed offline
      history.json           every change of what serves that this version had a part in
      proof.json             what the real artifact did before traffic, where it was proven
      request.json           the run's request, while the run's folder is kept
      spec/                  spec.json, ir.json and code/: the pipeline as it was deployed, while it is kept
      requirements.json      plane -> sha256 of the requirements file that it was trained with
      mlflow.json            parameters, metrics and tags, when MLflow answered
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct.contracts import DeployedSpec, Proof
from ct.deploy import spec_dir_of
from ct.errors import CTError, RegistryError
from ct.export.archive import write_archive
from ct.export.card import CARD, PLOT, Subject, requirements_of, write_card
from ct.registry.run_facts import run_facts
from ct.rollout import forced_of, tree_sha256
from ct.verdict_page import became, render_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ct.contracts import HistoryEntry, VersionManifest
    from ct.home import Home
    from ct.rollout import ModelStore

CODE_CACHE = "__pycache__"
BESIDE_THE_MODEL = ("examples.json", "manifest.json", "proof.json")
OF_THE_RUN = ("request.json", "proof.json", "approval.json")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    files: tuple[str, ...]
    missing: tuple[str, ...]
    """What could not be had, and why, a sentence each."""


def export(home: Home, store: ModelStore, version: int, path: Path, *, mlflow_url: str) -> Exported:
    """Write one archive of a version. The same history and the same record in MLflow give the same bytes.

    Args:
        home: the home.
        store: the model's store.
        version: which.
        path: the archive.
        mlflow_url: MLflow's server, which need not run.

    Raises:
        UnknownVersionError: there is no such version.
        CTError: its files are not those that were registered, or the archive cannot be written.
    """
    manifest = store.manifest(version)
    folder = store.version_path(version)
    if tree_sha256(folder / "saved_model") != manifest.saved_model_sha256:
        raise CTError(
            f'Version {version} of "{manifest.name}" is not exported: the files in {folder / "saved_model"} are not those that '
            f"were registered. `ct reproduce {manifest.name} {version}` builds it again from its record.",
            name=manifest.name,
            version=version,
        )
    missing: list[str] = []
    files: dict[str, bytes | Path] = {f"saved_model/{name}": file for name, file in _tree(folder / "saved_model")}
    files |= {
        name: home.runs / manifest.run_id / name for name in OF_THE_RUN if (home.runs / manifest.run_id / name).exists()
    }
    files |= {name: folder / name for name in BESIDE_THE_MODEL if (folder / name).exists()}
    spec = _add_spec(home, manifest, files, missing)
    if pins := requirements_of(manifest, spec):
        files["requirements.json"] = _json(pins)
    if "request.json" not in files:
        missing.append(f"request.json: the folder of run {manifest.run_id} is not kept any more")
    history = part_in(store.history(), version)
    files["history.json"] = _json([entry.model_dump(mode="json") for entry in history])
    files["verdict.json"] = _json(manifest.verdict.model_dump(mode="json"))
    mlflow = _mlflow(manifest, mlflow_url, missing)
    if mlflow is not None:
        files["mlflow.json"] = _json(mlflow)
    proof = Proof.model_validate_json(_text(files["proof.json"])) if "proof.json" in files else None
    afterwards = became(forced_of(history, version), store.quarantine_record(version))
    files["verdict.html"] = render_version(manifest, proof, afterwards).encode("utf-8")
    quarantine = tuple(record for record in store.quarantine_records() if record.version == version)
    subject = Subject(manifest, spec, history, proof, quarantine, tuple(sorted(files)), tuple(missing))
    files[CARD], files[PLOT] = write_card(subject)
    try:
        write_archive(path, f"{manifest.name}-{version}", files, manifest.created_at)
    except OSError as error:
        raise CTError(
            f"{path} cannot be written: {error.strerror or error}. Nothing else was changed.", path=str(path)
        ) from error
    return Exported(path, tuple(sorted(files)), tuple(missing))


def part_in(history: tuple[HistoryEntry, ...], version: int) -> tuple[HistoryEntry, ...]:
    """The changes in which a version began or ceased to serve, went beside the champion, or was quarantined."""
    return tuple(
        entry
        for entry in history
        if version in (entry.version, entry.previous, entry.shadow, entry.lets_answer, entry.quarantined)
    )


def _add_spec(
    home: Home, manifest: VersionManifest, files: dict[str, bytes | Path], missing: list[str]
) -> DeployedSpec | None:
    folder = spec_dir_of(home, manifest.name, manifest.spec_hash) if manifest.spec_hash else None
    if folder is None or not (folder / "spec.json").exists():
        missing.append(f"spec/: spec {manifest.spec_hash or 'of this version'} is not kept in this home")
        return None
    files |= {f"spec/{name}": file for name, file in _tree(folder)}
    return DeployedSpec.model_validate_json((folder / "spec.json").read_text(encoding="utf-8"))


def _mlflow(manifest: VersionManifest, url: str, missing: list[str]) -> dict[str, Any] | None:
    if manifest.mlflow_run_id is None:
        missing.append("mlflow.json: the version has no MLflow run")
        return None
    try:
        return run_facts(url, manifest.mlflow_run_id)
    except RegistryError as error:
        missing.append(f"mlflow.json: {error.message}")
        return None


def _tree(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and CODE_CACHE not in path.relative_to(folder).parts:
            yield path.relative_to(folder).as_posix(), path


def _text(content: bytes | Path) -> str:
    return content.decode("utf-8") if isinstance(content, bytes) else content.read_text(encoding="utf-8")


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("utf-8")
